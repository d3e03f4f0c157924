"""Messages for outputs: what emit() takes, as bytes."""

from __future__ import annotations

import struct

from stator import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Mapping, Optional, Union

    Text = Union[str, bytes]
    Headers = Union[Mapping[Text, Text], Iterable[tuple[Text, Text]]]

MAX_HEADERS = 256
MAX_BYTES = 65536  # of all headers, and of the key


class EmitError(Exception):
    """A message that can't be emitted: no such output, too large, not now, or not here."""


def to_bytes(what: str, value: Any) -> bytes:
    """Text as UTF-8, or bytes. TypeError."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"{what}: text or bytes expected, not {type(value).__name__}")


def to_value(value: Any) -> Optional[bytes]:
    """Text, bytes, None (a tombstone); anything else becomes JSON."""
    if value is None or type(value) is bytes:
        return value
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        return to_bytes("value", value)
    return _json.encode(value).encode()


def to_key(key: Any) -> Optional[bytes]:
    """Text, bytes or None; EmitError when it is too long."""
    if key is None:
        return None
    key = to_bytes("key", key)
    if len(key) > MAX_BYTES:
        raise EmitError(f"a key of {len(key)} bytes, at most {MAX_BYTES} expected")
    return key


def to_headers(headers: Optional[Headers]) -> list[tuple[bytes, bytes]]:
    """Pairs of bytes; EmitError when they are too many or too large."""
    if not headers:
        return []
    pairs: Any = headers.items() if hasattr(headers, "items") else headers
    found = [(to_bytes("header", name), to_bytes("header", value)) for name, value in pairs]
    size = sum([len(name) + len(value) for name, value in found])
    if len(found) > MAX_HEADERS or size > MAX_BYTES:
        raise EmitError(f"{len(found)} headers with {size} bytes, at most {MAX_HEADERS} with "
                        f"{MAX_BYTES} expected")
    if not all(name for name, _ in found):
        raise EmitError("a header without a name")
    return found


def pack(headers: list[tuple[bytes, bytes]]) -> Optional[bytes]:
    """A HEADERS section, None without headers."""
    if not headers:
        return None
    lengths = [len(part) for header in headers for part in header]
    return struct.pack(f"<I{len(lengths)}I", len(headers), *lengths) + b"".join(
        [part for header in headers for part in header])


def unknown(output: Any, names: Iterable[str]) -> EmitError:
    """For an output that is not configured."""
    there = ", ".join(sorted(names))
    return EmitError(f"spec.stator.outputs has no {output!r}; there "
                     + (f"are: {there}" if there else "are none"))
