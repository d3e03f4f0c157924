"""Events out of EVENT records. An attribute is made when it is read first."""

from __future__ import annotations

from stator._worker import wire
from stator.event import Event, TriggerInfo, parse_body, utc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Union

    Text = Union[str, bytes]

_TEXTS = (wire.METHOD, wire.PATH, wire.TARGET, wire.QUERY, wire.SCHEME, wire.CONTENT_TYPE,
          wire.HEADERS, wire.TOPIC)


class UnreadableEvent(Exception):
    """The event has text that is no UTF-8, or is a cloud event that cannot be read."""


class Source:
    """What events of a worker share."""

    def __init__(self, triggers: list[TriggerInfo], decode_strings: bool = True) -> None:
        self.triggers = triggers
        self.decode_strings = decode_strings
        self._names: dict[bytes, Text] = {}

    def text(self, content: bytes) -> Text:
        return content.decode() if self.decode_strings else content

    def header_name(self, name: bytes) -> Text:
        """Xxx-Yyy, as Go and Nuclio write names."""
        found = self._names.get(name)
        if found is None:
            if len(self._names) > 1000:  # somebody sends a new name each time
                self._names.clear()
            found = self.text(b"-".join([part.capitalize() for part in name.split(b"-")]))
            self._names[name] = found
        return found


class RecordEvent(Event):
    """An event that lies in a record."""

    def __getattr__(self, name: str) -> Any:
        maker = _MAKERS.get(name)
        if maker is None or "_record" not in self.__dict__:
            raise AttributeError(f"'Event' object has no attribute {name!r}")
        value = self.__dict__[name] = maker(self)
        return value

    def _bytes(self, ident: int) -> bytes:
        place = self._sections.get(ident)
        return self._record[place[0]:place[0] + place[1]] if place is not None else b""

    def _text(self, ident: int) -> Text:
        return self._source.text(self._bytes(ident))


def decode(source: Source, record: bytes) -> RecordEvent:
    """The event of an EVENT record. Raises UnreadableEvent where a text is no UTF-8 and texts are
    decoded, and for a cloud event that is none; wire.BrokenRecord."""
    event = RecordEvent.__new__(RecordEvent)
    put = event.__dict__
    put["_source"] = source
    put["_record"] = record
    put["_flags"], put["_seq"] = wire.record_head.unpack_from(record)[3:5]
    put["_sections"] = places = {}
    for ident, offset, length in wire.sections(record):
        places[ident] = (offset, length)
    if wire.META not in places or places[wire.META][1] < wire.event_meta.size:
        raise wire.BrokenRecord("an event without its META")
    put["_meta"] = wire.event_meta.unpack_from(record, places[wire.META][0])
    if source.decode_strings:
        _check_texts(event)
    if b"ce-" in event._bytes(wire.HEADERS).lower() or event._bytes(
            wire.CONTENT_TYPE)[:23].lower() == b"application/cloudevents":
        from stator._worker import cloudevents

        cloudevents.apply(event)
    return event


def seq(event: RecordEvent) -> int:
    """The number of its record."""
    return event._seq


def log_level(event: RecordEvent) -> int:
    """What its client asked for; wire.NO_LOG_LEVEL: nothing."""
    return event._meta[11]


def _check_texts(event: RecordEvent) -> None:
    try:
        for ident in _TEXTS:
            if ident in event._sections:
                content = event._bytes(ident)
                if ident == wire.HEADERS:
                    content = content[4 + 8 * int.from_bytes(content[:4], "little"):]
                if not content.isascii():
                    if ident == wire.HEADERS:
                        event.header_list  # each by itself
                    else:
                        content.decode()
        if b"%" in event._bytes(wire.QUERY):
            event.fields
    except UnicodeDecodeError as exc:
        raise UnreadableEvent(f"the event has text that is no UTF-8: {exc}") from None


def _unescape(content: bytes) -> bytes:
    content = content.replace(b"+", b" ")
    if b"%" not in content:
        return content
    first, *rest = content.split(b"%")
    out = [first]
    for part in rest:
        try:
            out.append(bytes.fromhex(part[:2].decode()) + part[2:] if len(part) > 1
                       else b"%" + part)
        except ValueError:
            out.append(b"%" + part)
    return b"".join(out)


def _fields(event: RecordEvent) -> dict[Text, Text]:
    text = event._source.text
    found = {}
    for pair in event._bytes(wire.QUERY).split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            found[text(_unescape(name))] = text(_unescape(value))
    return found


def _value_of(event: RecordEvent) -> Callable[[bytes], Text]:
    """What makes a header's value of its bytes: nothing does for the messages of a stream."""
    return bytes if event._meta[5] >= 0 else event._source.text


def _header_list(event: RecordEvent) -> list[tuple[Text, Text]]:
    text, value_of = event._source.text, _value_of(event)
    return [(text(name), value_of(value))
            for name, value in wire.unpack_headers(event._bytes(wire.HEADERS))]


def _headers(event: RecordEvent) -> dict[Text, Text]:
    source = event._source
    name_of: Callable[[bytes], Text] = source.header_name if event._meta[8] else source.text
    value_of = _value_of(event)
    return {name_of(name): value_of(value)
            for name, value in wire.unpack_headers(event._bytes(wire.HEADERS))}


def _id(event: RecordEvent) -> Text:
    digits = event._meta[0].hex()
    text = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    return text if event._source.decode_strings else text.encode()


def _trigger(event: RecordEvent) -> TriggerInfo:
    triggers = event._source.triggers
    index = event._meta[10]
    return triggers[index] if index < len(triggers) else TriggerInfo()


def _path(event: RecordEvent) -> Text:
    return event._source.text(event._bytes(wire.PATH) or b"/")


_MAKERS: dict[str, Callable[[RecordEvent], Any]] = {
    "body": lambda event: parse_body(event.raw_body, event.content_type),
    "raw_body": lambda event: event._bytes(wire.BODY),
    "size": lambda event: len(event.raw_body),
    "content_type": lambda event: event._text(wire.CONTENT_TYPE),
    "trigger": _trigger,
    "fields": _fields,
    "headers": _headers,
    "header_list": _header_list,
    "id": _id,
    "method": lambda event: event._text(wire.METHOD),
    "path": _path,
    "target": lambda event: event._text(wire.TARGET),
    "query": lambda event: event._text(wire.QUERY),
    "scheme": lambda event: event._text(wire.SCHEME),
    "topic": lambda event: event._text(wire.TOPIC),
    "key": lambda event: event._bytes(wire.KEY),
    "peer": lambda event: (event._bytes(wire.PEER).decode("utf-8", "replace"), event._meta[9]),
    "trace_parent": lambda event: event._bytes(wire.TRACE_PARENT).decode("utf-8", "replace"),
    "timestamp": lambda event: utc(event._meta[1] // 1000000000),
    "timestamp_ns": lambda event: event._meta[1],
    "offset": lambda event: event._meta[2],
    "position": lambda event: event._meta[2:4],
    "deadline_ns": lambda event: event._meta[4],
    "shard_id": lambda event: event._meta[5],
    "num_shards": lambda event: event._meta[6],
    "attempt": lambda event: event._meta[7],
    "is_tombstone": lambda event: bool(event._flags & wire.NO_VALUE),
    "http_version": lambda event: event._meta[8],
    "url": lambda event: event._source.text(b""),
    "type": lambda event: event._source.text(b""),
    "type_version": lambda event: event._source.text(b""),
    "version": lambda event: event._source.text(b""),
    "last_in_batch": lambda event: False,
}
