"""Control messages: runtimes/proto/worker.proto on descriptor 3, by a small codec of our own."""

from __future__ import annotations

import os
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union

    Spec = dict[int, tuple[str, Any]]

MAX_MESSAGE = 1 << 20
_MAX_TEXT = 256 << 10  # bytes of one text in a message of ours

# Field number: (name, type). Types: "int", "sint64" (two's complement, as int64 and int32), "text",
# "bool", "double", or the fields of a message; in a list: repeated.
_TRIGGER: Spec = {1: ("kind", "text"), 2: ("name", "text")}
CONFIGURE: Spec = {
    1: ("worker", "int"), 2: ("function", "text"), 3: ("namespace", "text"),
    4: ("version", "sint64"), 5: ("description", "text"), 6: ("handler", "text"),
    7: ("code_dir", "text"), 8: ("platform", "text"), 9: ("triggers", [_TRIGGER]),
    10: ("pool", _TRIGGER), 11: ("max_concurrency", "int"), 12: ("attributes", "text"),
    13: ("log_level", "int"), 14: ("batch", "bool"), 15: ("workers", "int"),
    16: ("slot", "text"), 17: ("event_timeout_ns", "int"), 18: ("outputs", ["text"]),
    19: ("first", "bool")}
TO_WORKER: Spec = {1: ("configure", CONFIGURE), 2: ("drain", {}), 3: ("terminate", {}),
                   4: ("resume", {}), 5: ("fork", {1: ("worker", "int")})}
FROM_WORKER: Spec = {
    1: ("hello", {1: ("protocol", "int"), 2: ("language", "text"), 3: ("shared_memory", "bool"),
                  4: ("template", "bool")}),
    2: ("ready", {1: ("credits", "int"), 2: ("batch", "bool")}),
    3: ("failed", {1: ("text", "text")}),
    4: ("log", {1: ("seq", "int"), 2: ("level", "int"), 3: ("message", "text"),
                4: ("variables", "text")}),
    5: ("metric", {1: ("name", "text"), 2: ("value", "double"), 3: ("gauge", "bool"),
                   4: ("dropped", "int")}),
    6: ("drained", {}),
    7: ("forked", {1: ("worker", "int"), 2: ("pid", "sint64"), 3: ("text", "text"),
                   4: ("temporary", "bool")}),
    8: ("acknowledge", {1: ("topic", "text"), 2: ("shard", "int"), 3: ("offset", "int")})}


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise ValueError("a number without end")


def encode(spec: Spec, values: dict[str, Any]) -> bytes:
    """The bytes of a message; texts are bytes or str. Fields with a default value are left out,
    messages that are there are not."""
    out = []
    for number, (name, kind) in spec.items():
        value = values.get(name)
        if value is None:
            continue
        for one in value if isinstance(kind, list) else [value]:
            out.append(_encode_field(number, kind[0] if isinstance(kind, list) else kind, one))
    return b"".join(out)


def _encode_field(number: int, kind: Any, value: Any) -> bytes:
    if isinstance(kind, dict):
        content = encode(kind, value)
        return _varint(number << 3 | 2) + _varint(len(content)) + content
    if not value:
        return b""
    if kind == "text":
        content = value if isinstance(value, bytes) else value.encode()
        return _varint(number << 3 | 2) + _varint(len(content)) + content
    if kind == "double":
        import struct

        return _varint(number << 3 | 1) + struct.pack("<d", value)
    return _varint(number << 3) + _varint(int(value))


def _default(kind: Any) -> Any:
    if isinstance(kind, list):
        return []
    if isinstance(kind, dict):
        return None
    return {"text": "", "bool": False, "double": 0.0}.get(kind, 0)


def decode(spec: Spec, data: bytes) -> dict[str, Any]:
    """The fields of a message, with defaults for what is not there (None for messages); fields
    that the spec does not know are skipped. ValueError or IndexError where it is none."""
    values: dict[str, Any] = {name: _default(kind) for name, kind in spec.values()}
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        content: Union[int, bytes]
        if wire_type == 0:
            content, at = _read_varint(data, at)
        else:
            if wire_type == 2:
                length, at = _read_varint(data, at)
            else:
                length = {1: 8, 5: 4}[wire_type]
            if at + length > len(data):
                raise ValueError("a field that is cut")
            content = data[at:at + length]
            at += length
        if number in spec:
            name, kind = spec[number]
            if isinstance(kind, list):
                values[name].append(_decode_field(kind[0], content))
            else:
                values[name] = _decode_field(kind, content)
    return values


def _decode_field(kind: Any, content: Any) -> Any:
    if isinstance(kind, dict):
        return decode(kind, content)
    if kind == "text":
        return content.decode("utf-8", "replace")
    if kind == "bool":
        return bool(content)
    if kind == "double":
        import struct

        return struct.unpack("<d", content)[0]
    if kind == "sint64" and content >> 63:
        return content - (1 << 64)
    return content


class Control:
    """The control socket. Messages are written whole, from any thread; read by one."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = allocate_lock()
        os.set_inheritable(fd, False)
        os.set_blocking(fd, True)

    def fileno(self) -> int:
        return self._fd

    def send(self, kind: str, **values: Any) -> None:
        """FromWorker with one kind. OSError when the processor is gone."""
        self.send_all(kind, [values])

    def send_all(self, kind: str, messages: list[dict[str, Any]]) -> None:
        """The same for several, together."""
        packed = [encode(FROM_WORKER, {kind: values}) for values in messages]
        data = memoryview(b"".join([len(one).to_bytes(4, "little") + one for one in packed]))
        with self._lock:
            while data:
                data = data[os.write(self._fd, data):]

    def in_child(self) -> None:
        """In a process that was forked off, maybe while another thread was sending."""
        self._lock = allocate_lock()

    def read(self) -> Optional[tuple[str, dict[str, Any]]]:
        """The next ToWorker: kind and fields. Waits. None when the processor is gone."""
        head = self._read(4)
        if head is None:
            return None
        length = int.from_bytes(head, "little")
        if length > MAX_MESSAGE:
            raise ValueError(f"a control message of {length} bytes")
        data = self._read(length)
        if data is None:
            return None
        for kind, values in decode(TO_WORKER, data).items():
            if values is not None:
                return kind, values
        return "", {}  # of a later protocol

    def configuration(self) -> dict[str, Any]:
        """The fields of Configure. SystemExit when the worker is not wanted any more."""
        while True:
            message = self.read()
            if message is None or message[0] == "terminate":
                raise SystemExit(0)
            if message[0] == "configure":
                return message[1]

    def log(self, seq: int, level: int, message: str, variables: str) -> None:
        """A log message; level 0 debug to 3 error, variables a JSON object or empty."""
        from stator._json import to_utf8

        text = to_utf8(message)
        if len(text) > _MAX_TEXT:
            text = text[:_MAX_TEXT].decode("utf-8", "ignore").encode() + b" ..."
        more = to_utf8(variables)
        if len(more) > _MAX_TEXT:
            more = b'{"variables": "left out, they have %d bytes"}' % len(more)
        self.send("log", seq=seq, level=level, message=text, variables=more)

    def _read(self, size: int) -> Optional[bytes]:
        data = b""
        while len(data) < size:
            more = os.read(self._fd, size - len(data))
            if not more:
                return None
            data += more
        return data
