"""Cloud events of version 0.1 (as Nuclio reads them) and 1.0, in binary and structured form.

An event that is one gets the cloud event's id, type, type_version, version, timestamp and trigger;
the structured form also its content type, headers and body. Method and path stay those of HTTP. An
`application/cloudevents-batch` stays as it is.
"""

from __future__ import annotations

from stator._worker.events import UnreadableEvent
from stator.event import TriggerInfo, parse_body

TYPE_CHECKING = False
if TYPE_CHECKING:
    import datetime
    from typing import Any

_TYPE = "application/cloudevents"
_V1_NAMES = frozenset(("specversion", "id", "source", "type", "time", "datacontenttype", "data",
                       "data_base64"))


def apply(event: Any) -> None:
    """Changes an event that is a cloud event; leaves others alone. The event has Event's
    attributes and can be changed. Raises UnreadableEvent."""
    content_type = _text(event.content_type)
    if content_type[:len(_TYPE)].lower() == _TYPE:
        if not content_type[len(_TYPE):].startswith("-batch"):
            _structured(event)
        return
    headers = {_text(name).lower(): _text(value) for name, value in event.headers.items()}
    if headers.get("ce-cloudeventsversion"):
        _binary(event, headers, "ce-cloudeventsversion", "ce-eventid", "ce-eventtype",
                "ce-eventtime")
        event.type_version = headers.get("ce-eventtypeversion", "")
        name = headers.get("ce-name", "")
    elif headers.get("ce-specversion"):
        _binary(event, headers, "ce-specversion", "ce-id", "ce-type", "ce-time")
        name = headers.get("ce-source", "")
    else:
        return
    event.trigger = TriggerInfo(headers.get("ce-source", ""), name)


def _binary(event: Any, headers: dict[str, str], version: str, ident: str, kind: str,
            time: str) -> None:
    event.version = headers[version]
    event.type = headers.get(kind, "")
    event.type_version = ""
    if headers.get(ident):
        event.id = headers[ident]
    if headers.get(time):
        event.timestamp = parse_time(headers[time])


def _structured(event: Any) -> None:
    import json

    try:
        values = json.loads(event.raw_body)
    except (ValueError, RecursionError) as exc:
        raise UnreadableEvent(f"the cloud event is no JSON: {exc}") from None
    if not isinstance(values, dict):
        raise UnreadableEvent("the cloud event is no JSON object")
    if "specversion" in values:
        _structured_1_0(event, values)
    else:
        _structured_0_1(event, values)


def _structured_0_1(event: Any, values: dict[str, Any]) -> None:
    _describe(event, values, version="cloudEventsVersion", ident="eventID", kind="eventType",
              time="eventTime")
    event.type_version = _string(values, "eventTypeVersion")
    event.content_type = _string(values, "contentType")
    extensions = values.get("extensions")
    if extensions is not None and not isinstance(extensions, dict):
        raise UnreadableEvent("the cloud event's extensions are no JSON object")
    event.headers = extensions or {}
    data = values.get("data")
    if isinstance(data, str):
        data = _replace_bytes(event, data.encode())
    event.body = b"" if data is None else data


def _structured_1_0(event: Any, values: dict[str, Any]) -> None:
    import json

    _describe(event, values, version="specversion", ident="id", kind="type", time="time")
    event.type_version = ""
    event.headers = {name: value for name, value in values.items() if name not in _V1_NAMES}
    content_type = _string(values, "datacontenttype") or "application/json"
    event.content_type = content_type
    if values.get("data_base64") is not None:
        import base64

        try:
            raw = base64.b64decode(_string(values, "data_base64"), validate=True)
        except ValueError as exc:
            raise UnreadableEvent(f"the cloud event's data_base64: {exc}") from None
        event.body = _replace_bytes(event, raw)
        return
    data = values.get("data")
    if "data" not in values:
        event.raw_body = event.body = b""
        event.size = 0
    elif isinstance(data, str) and not _is_json(content_type):
        event.body = _replace_bytes(event, data.encode())
    else:  # a JSON value, also where it is a text
        raw = json.dumps(data).encode()
        event.raw_body = raw
        event.size = len(raw)
        event.body = data


def _is_json(content_type: str) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    return media.endswith(("/json", "+json"))


def _replace_bytes(event: Any, raw: bytes) -> Any:
    event.raw_body = raw
    event.size = len(raw)
    return parse_body(raw, event.content_type)


def _describe(event: Any, values: dict[str, Any], version: str, ident: str, kind: str,
              time: str) -> None:
    event.version = _string(values, version)
    event.type = _string(values, kind)
    if _string(values, ident):
        event.id = _string(values, ident)
    if _string(values, time):
        event.timestamp = parse_time(_string(values, time))
    source = _string(values, "source")
    event.trigger = TriggerInfo(source, source)


def _string(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnreadableEvent(f"the cloud event's {name} is no text")
    return value


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def parse_time(text: str) -> datetime.datetime:
    """RFC 3339 as a datetime in UTC without a zone; UnreadableEvent."""
    import datetime

    date, fraction, rest = text, "", ""
    if len(text) > 19 and text[19] == ".":  # Python 3.10 takes 3 or 6 digits only
        digits = len(text[20:]) - len(text[20:].lstrip("0123456789"))
        date, fraction, rest = text[:19], text[20:20 + digits], text[20 + digits:]
    elif len(text) > 19:
        date, rest = text[:19], text[19:]
    try:
        parsed = datetime.datetime.fromisoformat(
            f"{date}.{(fraction + '000000')[:6]}" + ("+00:00" if rest in ("Z", "z") else rest))
    except ValueError:
        raise UnreadableEvent(f"the cloud event's time {text!r} is not of RFC 3339") from None
    if parsed.tzinfo is None:
        raise UnreadableEvent(f"the cloud event's time {text!r} has no zone")
    return parsed.astimezone(datetime.timezone.utc).replace(tzinfo=None)
