"""Tests of handlers without a processor.

    from stator import testing

    def test_greets():
        reply = testing.call(handler, body=b"Ada")
        assert reply.status_code == 200
        assert reply.body == b"Hello, Ada"

call() gives the handler a Context that collects log messages and an Event with the fields that an
HTTP request would have, and makes a reply of the result by the same rules as a worker does.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, Callable, Iterable, Optional, Union

from stator import _emit, _json
from stator._worker import results
from stator.context import Context
from stator.event import Event, TriggerInfo, parse_body, utc
from stator.logger import Logger
from stator.outcomes import Outcome, Reject
from stator.platform import Platform
from stator.response import Response

__all__ = ["Emitted", "FakePlatform", "RecordingLogger", "Reply", "call", "call_batch",
           "make_context", "make_event"]

_LEVELS = {10: "debug", 20: "info", 30: "warn", 40: "error"}


class RecordingLogger(Logger):
    """Keeps its messages: `records` is a list of (level, message, variables)."""

    def __init__(self) -> None:
        super().__init__(sink=self._keep)
        self.records: list[tuple[str, str, dict[str, Any]]] = []

    def _keep(self, level: int, text: str, variables: dict[str, Any]) -> None:
        _json.encode_variables(variables)  # as a worker would
        self.records.append((_LEVELS.get(level, "error"), text, variables))


class FakePlatform(Platform):
    """Answers call_function() from `functions`, a dict of name -> handler, result or exception;
    `calls` is a list of (name, event), `acks` one of what explicit_ack() was given."""

    def __init__(self, functions: Optional[dict[str, Any]] = None, kind: str = "test",
                 namespace: str = "default") -> None:
        super().__init__(kind, namespace)
        self.functions = functions or {}
        self.calls: list[tuple[str, Event]] = []
        self.acks: list[Any] = []

    def call_function(self, function_name: str, event: Event, node: Any = None,
                      timeout: Optional[float] = None,
                      service_name_override: Optional[str] = None) -> Response:
        self.calls.append((function_name, event))
        if function_name not in self.functions:
            raise ConnectionError(f"no function {function_name} in FakePlatform.functions")
        answer = self.functions[function_name]
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer = answer(make_context(), event)
        reply = _reply(answer)
        body: Any = reply.body
        if reply.content_type == "application/json":
            body = parse_body(reply.body, "application/json")
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return Response(headers, body, reply.content_type, reply.status_code)

    async def explicit_ack(self, qualified_offset: Any) -> None:
        self.acks.append(qualified_offset)


class Emitted:
    """What a handler gave to context.emit(): output, value, key (bytes or None), headers (pairs of
    bytes), topic (text or None) and event."""

    def __init__(self, output: str, value: Optional[bytes], key: Optional[bytes],
                 headers: list[tuple[bytes, bytes]], topic: Optional[str],
                 event: Optional[Event]) -> None:
        self.output = output
        self.value = value
        self.key = key
        self.headers = headers
        self.topic = topic
        self.event = event

    def json(self) -> Any:
        import json

        return json.loads(self.value or b"")

    def __repr__(self) -> str:
        return f"Emitted({self.output!r}, {self.value!r}, key={self.key!r})"


class Reply:
    """What a client would get: status_code, content_type, headers, body (bytes); `chunks` are the
    pieces of a streamed body, `logs` the records of the context's logger if it keeps them,
    `emitted` what the context has collected of emit()."""

    def __init__(self, status_code: int, content_type: str, headers: dict[str, str], body: bytes,
                 chunks: Optional[list[bytes]] = None) -> None:
        self.status_code = status_code
        self.content_type = content_type
        self.headers = headers
        self.body = body
        self.chunks = chunks
        self.logs: list[tuple[str, str, dict[str, Any]]] = []
        self.emitted: list[Emitted] = []

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        import json

        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"Reply({self.status_code}, {self.content_type!r}, {self.headers}, {self.body!r})"


def make_event(body: Any = b"", *, content_type: str = "", method: str = "", path: str = "/",
               headers: Optional[dict[str, str]] = None, fields: Optional[dict[str, str]] = None,
               trigger: Optional[TriggerInfo] = None, **attributes: Any) -> Event:
    """An event as an HTTP trigger makes it. A body that is neither text nor bytes becomes JSON;
    `attributes` are set as they are."""
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = _json.encode(body).encode()
        content_type = content_type or "application/json"
    event = Event(
        body=parse_body(body, content_type), content_type=content_type,
        trigger=trigger or TriggerInfo("http", "default-http"), fields=fields,
        headers=dict(headers or {}), _id=str(uuid.uuid4()),
        method=method or ("POST" if body else "GET"), path=path, size=len(body),
        timestamp=utc(0), url="", shard_id=-1, num_shards=0, _type="", type_version="",
        version="", offset=0, topic="")
    if content_type:
        event.headers.setdefault("Content-Type", content_type)
    event.raw_body = body
    event.header_list = list(event.headers.items())
    event.timestamp_ns = 0
    event.key = b""
    event.is_tombstone = False
    event.attempt = 1
    for name, value in attributes.items():
        setattr(event, name, value)
    return event


def make_context(*, init: Optional[Callable[[Context], Any]] = None,
                 platform: Optional[Platform] = None, logger: Optional[Logger] = None,
                 worker_id: str = "0", trigger: Optional[TriggerInfo] = None,
                 outputs: Optional[Iterable[str]] = None) -> Context:
    """A context. `init` is a handler's init_context(), called with it. `emitted` is a list of what
    the handler emits; `outputs` names the outputs that there are, None: any."""
    context = Context(logger or RecordingLogger(), platform or FakePlatform(), worker_id,
                      trigger or TriggerInfo("http", "default-http"))
    emitted: list[Emitted] = []

    def emit(output: Any, value: Any, key: Any, headers: Any, topic: Any, event: Any) -> None:
        if outputs is not None and output not in outputs:
            raise _emit.unknown(output, outputs)
        emitted.append(Emitted(output, _emit.to_value(value), _emit.to_key(key),
                               _emit.to_headers(headers), topic, event))

    context._emit = emit
    context.emitted = emitted  # type: ignore[attr-defined]
    if init is not None:
        output = init(context)
        if hasattr(output, "__await__"):
            asyncio.run(_wait(output))
    return context


def call(handler: Callable[[Context, Event], Any], event: Union[Event, None] = None, *,
         context: Optional[Context] = None, **fields: Any) -> Reply:
    """Calls the handler, plain or asynchronous, with an event, or one of make_event(**fields). An
    exception of the handler is raised, not made a reply; so is a Retry or Reject that it gives
    back."""
    if event is None:
        event = make_event(**fields)
    context = context or make_context()
    reply = _reply(_run(handler, context, event))
    reply.logs = getattr(context.logger, "records", [])
    reply.emitted = getattr(context, "emitted", [])
    return reply


def call_batch(handler: Callable[[Context, list[Event]], Any], events: list[Event], *,
               context: Optional[Context] = None) -> list[Reply]:
    """Calls a handler of batches; the replies in the order of the events. A Retry or Reject among
    them is a Reply as HTTP has it: 503 or 400 with the reason."""
    if events:
        events[-1].last_in_batch = True
    output = _run(handler, context or make_context(), events)
    matched = results.match_batch(output, [event.id for event in events])
    return [_one_of_batch(event, response) for event, response in zip(events, matched)]


def _one_of_batch(event: Event, response: Any) -> Reply:
    if response is None:
        return _made(results.no_batch_result(event.id))
    if isinstance(response, Outcome):
        reply = _made(results.failure(response)[0])
        reply.status_code = 400 if isinstance(response, Reject) else 503
        return reply
    return _made(results.to_reply(response))


def _run(handler: Callable[..., Any], context: Context, argument: Any) -> Any:
    output = handler(context, argument)
    if hasattr(output, "__await__"):
        return asyncio.run(_finish(output))
    return output


async def _wait(awaitable: Any) -> Any:
    return await awaitable


async def _finish(awaitable: Any) -> Any:
    """The result; an asynchronous stream is read while its loop is there."""
    output = await awaitable
    body = output.body if results.is_response(output) else output
    if hasattr(body, "__anext__"):
        pieces = (piece for piece in [piece async for piece in body])
        if body is output:
            return pieces
        output.body = pieces
    return output


def _reply(output: Any) -> Reply:
    try:
        return _made(results.to_reply(output))
    except results.WrongResult as exc:
        return _made(exc.reply())


def _made(reply: Any) -> Reply:
    status, content_type, headers, body = reply
    chunks = None
    if results.is_stream(body):
        if hasattr(body, "__anext__"):
            body = asyncio.run(_collect(body))
        chunks = [piece for piece in map(results.piece, body) if piece]
        body = b"".join(chunks)
    return Reply(status, content_type.decode(),
                 {name.decode(): value.decode() for name, value in headers}, body, chunks)


async def _collect(pieces: Any) -> list[Any]:
    return [piece async for piece in pieces]
