"""What a handler gave back, as a reply: (status, content_type, headers, body).

    status          0 (by outcome) or 200 to 599
    content_type    bytes, may be empty
    headers         list of (name, value), bytes without CR, LF and NUL
    body            bytes; else a plain or asynchronous generator of pieces, see piece()

The texts of errors are those that Nuclio's clients see.
"""

from __future__ import annotations

import types

from stator import _json
from stator._worker import wire
from stator.outcomes import Outcome, Reject, retry_after_ms
from stator.response import NO_ACK_HEADER, Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    Reply = tuple[int, bytes, list[tuple[bytes, bytes]], Any]

PLAIN = b"text/plain"
JSON = b"application/json"
_GO_PLAIN = b"text/plain; charset=utf-8"
_BREAKS = bytes.maketrans(b"\r\n\0", b"   ")
_NAME_BYTES = frozenset(b"!#$%&'*+-.^_`|~0123456789"
                        b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class WrongResult(Exception):
    """The result cannot be a reply; its text is the body of a 500."""

    def reply(self) -> Reply:
        return 500, _GO_PLAIN, [], str(self).encode()


def is_stream(body: Any) -> bool:
    """A generator, plain or asynchronous."""
    return isinstance(body, (types.GeneratorType, types.AsyncGeneratorType))


def to_reply(output: Any) -> Reply:
    """The reply that a handler's result stands for. Raises WrongResult, Retry and Reject that were
    given back, and what a __str__ or __repr__ in it raises."""
    if isinstance(output, str):
        return 200, PLAIN, [], _json.to_utf8(output)
    if isinstance(output, (bytes, bytearray, memoryview)):
        return 200, PLAIN, [], bytes(output)
    if is_response(output):
        return _from_response(output)
    if isinstance(output, list):
        if not output:
            return 200, JSON, [], b"[]"
        first = output[0]
        return to_reply(first) if not isinstance(first, list) else _plain(200, first)
    if isinstance(output, tuple) and len(output) == 2:
        status, body = output
        status = _status(status)
        if is_stream(body):
            return status, PLAIN, [], body
        if isinstance(body, str):
            return status, PLAIN, [], _json.to_utf8(body)
        return status, JSON, [], _json.encode(body).encode()
    if isinstance(output, Outcome):
        raise output
    return _plain(200, output)


def _plain(status: int, output: Any) -> Reply:
    if isinstance(output, (dict, list)):
        return status, JSON, [], _json.encode(output).encode()
    if is_stream(output):
        return status, PLAIN, [], output
    return status, PLAIN, [], _json.to_utf8(str(output))


def is_response(output: Any) -> bool:
    """A Response, also one of another copy of the SDK that a function brings along."""
    return isinstance(output, Response) or (
        type(output).__name__ == "Response"
        and all(hasattr(output, name) for name in ("body", "headers", "content_type",
                                                   "status_code")))


def _from_response(response: Any) -> Reply:
    # In the order in which Nuclio's processor reads them, so that the first mistake is the same.
    body = response.body
    if isinstance(body, dict):
        content_type = JSON
        body = _json.encode(body).encode()
    else:
        content_type = _content_type(response.content_type)
        if isinstance(body, str):
            body = _json.to_utf8(body)
        elif isinstance(body, (bytes, bytearray, memoryview)):
            body = bytes(body)
        elif not is_stream(body):
            body = _json.to_utf8(str(body))
    headers, other_type = _headers(response.headers)
    status = _status(response.status_code)
    event_id = getattr(response, "event_id", None)
    if event_id and _go_kind(event_id) != "string":
        raise _wrong(event_id, "event_id", "string")
    return status, content_type or other_type, headers, body


def _go_kind(value: Any) -> str:
    """How the JSON decoder of Go calls what the value becomes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        finite = not isinstance(value, float) or abs(value) <= 1.7976931348623157e308
        return "number" if finite else "string"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, (list, tuple)):
        return "array"
    return "string"


def _wrong(value: Any, field: str, wanted: str) -> WrongResult:
    kind = _go_kind(value)
    if kind == "number" and wanted == "int":
        kind = f"number {value!r}"
    return WrongResult(
        f"json: cannot unmarshal {kind} into Go struct field Result.{field} of type {wanted}")


def _status(status: Any) -> int:
    if status is None:
        return 200
    if isinstance(status, bool) or not isinstance(status, int) or abs(status) >= 1 << 63:
        raise _wrong(status, "status_code", "int")
    if status == 0:
        return 200
    if not 200 <= status <= 599:
        raise WrongResult(f"the handler's status {int(status)} is not in 200 to 599")
    return int(status)


def _content_type(content_type: Any) -> bytes:
    if isinstance(content_type, str):
        return _json.to_utf8(content_type).translate(_BREAKS)
    kind = _go_kind(content_type)
    if kind == "null":
        return b""
    if kind != "string":
        raise _wrong(content_type, "content_type", "string")
    return _json.to_utf8(str(_json.represent(content_type))).translate(_BREAKS)


def _headers(headers: Any) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers without Content-Type, and its value. Texts and numbers are sent; other values
    and names that are none are not, as in Nuclio."""
    if not headers:
        return [], b""
    if not isinstance(headers, dict):
        raise _wrong(headers, "headers", "map[string]interface {}")
    found = []
    content_type = b""
    for name, value in headers.items():
        if isinstance(value, bool):
            # ensure_no_ack() is for the trigger; no other header may be true or false.
            if not isinstance(name, str) or name.lower() != NO_ACK_HEADER:
                continue
            text = "true" if value else "false"
        elif isinstance(value, (int, float)):
            text = _json.encode(value).strip('"')
        elif value is None or isinstance(value, (dict, list, tuple)):
            continue
        else:
            text = value if isinstance(value, str) else str(_json.represent(value))
        field = _json.to_utf8(name if isinstance(name, str) else str(name))
        if not field or not _NAME_BYTES.issuperset(field):
            continue
        content = _json.to_utf8(text).translate(_BREAKS)
        if len(field) == 12 and field.lower() == b"content-type":
            content_type = content
        else:
            found.append((field, content))
    return found, content_type


def piece(output: Any) -> bytes:
    """The bytes of one piece of a stream: text, bytes, a dict or list as JSON, nothing for None,
    str() of anything else."""
    if isinstance(output, str):
        return _json.to_utf8(output)
    if isinstance(output, (bytes, bytearray, memoryview)):
        return bytes(output)
    if output is None:
        return b""
    if isinstance(output, (dict, list)):
        return _json.encode(output).encode()
    return _json.to_utf8(str(output))


def failure(exc: BaseException) -> tuple[Reply, str]:
    """The reply for an exception, and its traceback. Never raises an Exception."""
    if isinstance(exc, WrongResult):
        return exc.reply(), ""
    if isinstance(exc, Outcome):
        return (0, PLAIN, [], _json.to_utf8(exc.reason)), ""
    text = exception_text(exc)
    trace = traceback_of(exc)
    body = _json.to_utf8(f'Exception caught in handler - "{text}": {trace}')
    return (500, PLAIN, [], body), trace


def outcome(exc: BaseException) -> tuple[int, int]:
    """The wire's outcome for an exception, and its retry_after_ms."""
    if not isinstance(exc, Outcome):
        return wire.OUTCOME_ERROR, 0
    return (wire.OUTCOME_REJECT if isinstance(exc, Reject) else wire.OUTCOME_RETRY,
            retry_after_ms(exc))


def exception_text(exc: BaseException) -> str:
    """str(exc), or something in its place."""
    try:
        return str(exc)
    except Exception:
        return type(exc).__name__


def traceback_of(exc: BaseException) -> str:
    """The traceback from the first line of the handler's on."""
    import traceback

    trace = exc.__traceback__
    while trace is not None and _is_ours(trace):
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(exc), exc, trace or exc.__traceback__))
    except Exception:
        return type(exc).__name__


def _is_ours(trace: Any) -> bool:
    return trace.tb_frame.f_globals.get("__name__", "").startswith("stator._worker")


def match_batch(output: Any, ids: list[Any]) -> list[Optional[Any]]:
    """The results of a batch in the order of its events' ids; None for an event without one. No
    result at all is one for each. Raises WrongResult when it is neither that nor a list."""
    if output is None:
        return [Response() for _ in ids]
    if not isinstance(output, list):
        raise WrongResult(
            f"a batch handler gives back a list of Response, not {type(output).__name__}")
    by_id = {}
    for response in output:
        if ((is_response(response) or isinstance(response, Outcome))
                and getattr(response, "event_id", None)):
            by_id.setdefault(str(response.event_id), response)
    return [by_id.get(ident.decode() if isinstance(ident, bytes) else str(ident))
            for ident in ids]


def no_batch_result(ident: Any) -> Reply:
    """The reply to an event that the result of its batch has nothing for."""
    if isinstance(ident, bytes):
        ident = ident.decode()
    text = f"the batch's result has no Response with event_id {ident}"
    return 500, PLAIN, [], text.encode()
