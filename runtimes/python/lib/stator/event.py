"""Event: what a handler gets."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import datetime
    from typing import Any, Optional

# What to_json() writes, beside attributes that somebody added.
JSON_NAMES = (
    "body", "content_type", "trigger", "fields", "headers", "id", "method", "path", "size",
    "timestamp", "url", "shard_id", "num_shards", "type", "type_version", "version",
    "last_in_batch", "offset", "topic")

# What a processor's event has beside them.
EXTRA_NAMES = frozenset((
    "raw_body", "header_list", "target", "query", "scheme", "key", "peer", "trace_parent",
    "timestamp_ns", "position", "attempt", "http_version", "deadline_ns", "is_tombstone"))


class TriggerInfo:
    """Where an event comes from: `kind` ("http", "cron", "kafka-cluster" ...) and `name`."""

    kind: str
    name: str

    def __init__(self, kind: str = "", name: str = "") -> None:
        self.kind = kind
        self.name = name

    def __repr__(self) -> str:
        return f"TriggerInfo(kind={self.kind!r}, name={self.name!r})"


class Event:
    """One thing to handle. A plain object: attributes may be set and added.

    body            bytes; the parsed value if content_type is exactly "application/json" and the
                    bytes are JSON
    raw_body        the bytes as they came (also where body is parsed)
    content_type    text, "" without one
    headers         dict; HTTP names as Xxx-Yyy, of repeated ones the last. Values are text, those
                    of a stream's messages bytes
    header_list     list of (name, value), all of them, in order and as they were sent
    fields          dict of what stands behind "?", of repeated names the last
    id, method, path, url, topic, type, type_version, version: text
    timestamp       datetime in UTC without a zone, whole seconds
    timestamp_ns    nanoseconds since the epoch
    size            bytes of the body
    shard_id, num_shards, offset: where it stands in its source; -1, 0 and 0 if it has no such place
    key             bytes, b"" without one
    is_tombstone    true for a message without a value, which is not an empty one
    attempt         of a message: 1 when it comes first, 2 when it comes again ...
    last_in_batch   true for the last event of a batch
    trigger         TriggerInfo

    In a worker attributes are made when they are read first.
    """

    body: Any
    raw_body: bytes
    content_type: str
    trigger: TriggerInfo
    fields: dict[str, str]
    headers: dict[str, Any]
    header_list: list[tuple[str, Any]]
    id: str
    method: str
    path: str
    size: int
    timestamp: datetime.datetime
    timestamp_ns: int
    url: str
    shard_id: int
    num_shards: int
    type: str
    type_version: str
    version: str
    last_in_batch: bool
    offset: int
    topic: str
    key: bytes
    is_tombstone: bool
    attempt: int

    def __init__(
        self,
        body: Any = None,
        content_type: Optional[str] = None,
        trigger: Optional[TriggerInfo] = None,
        fields: Optional[dict[str, str]] = None,
        headers: Optional[dict[str, Any]] = None,
        _id: Optional[str] = None,
        method: Optional[str] = None,
        path: Optional[str] = None,
        size: Optional[int] = None,
        timestamp: Any = None,
        url: Optional[str] = None,
        shard_id: Optional[int] = None,
        num_shards: Optional[int] = None,
        _type: Optional[str] = None,
        type_version: Optional[str] = None,
        version: Optional[str] = None,
        last_in_batch: Optional[bool] = None,
        offset: Optional[int] = None,
        topic: Optional[str] = None,
    ) -> None:
        put = self.__dict__
        put["body"] = body
        put["content_type"] = content_type
        put["trigger"] = trigger or TriggerInfo()
        put["fields"] = fields or {}
        put["headers"] = headers or {}
        put["id"] = _id
        put["method"] = method
        put["path"] = path or "/"
        put["size"] = size
        put["timestamp"] = timestamp or 0
        put["url"] = url
        put["shard_id"] = shard_id
        put["num_shards"] = num_shards
        put["type"] = _type
        put["type_version"] = type_version
        put["version"] = version
        put["last_in_batch"] = last_in_batch or False
        put["offset"] = offset or 0
        put["topic"] = topic

    def get_header(self, header_key: str) -> Optional[Any]:
        """The value of a header, in whatever case its name is written; None without it."""
        wanted = header_key.lower()
        for name, value in self.headers.items():
            if name.lower() == wanted:
                return value
        return None

    def to_json(self) -> str:
        """All of it as JSON; bytes in base64."""
        import base64
        import datetime

        from stator import _json

        values = {name: getattr(self, name) for name in JSON_NAMES}
        for name, value in vars(self).items():
            if name not in EXTRA_NAMES and not name.startswith("_"):
                values.setdefault(name, value)
        trigger = values["trigger"]
        values["trigger"] = {"kind": trigger.kind, "name": trigger.name}
        if isinstance(values["timestamp"], datetime.datetime):
            values["timestamp"] = str(values["timestamp"])
        if isinstance(values["body"], bytes):
            values["body"] = base64.b64encode(values["body"]).decode("ascii")
        return _json.encode(values)

    @classmethod
    def from_json(cls, data: Any) -> Event:
        """The event of a JSON text as to_json() writes it: a body that is base64 is decoded, and
        parsed if the content type is application/json."""
        import json

        values = json.loads(data)
        content_type = values.get("content_type")
        trigger = values.get("trigger") or {}
        return cls(
            body=cls._body_from_json(values.get("body"), content_type),
            content_type=content_type,
            trigger=TriggerInfo(trigger.get("kind", ""), trigger.get("name", "")),
            fields=values.get("fields"), headers=values.get("headers"), _id=values.get("id"),
            method=values.get("method"), path=values.get("path"), size=values.get("size"),
            timestamp=_timestamp_from_json(values.get("timestamp")), url=values.get("url"),
            shard_id=values.get("shard_id"), num_shards=values.get("num_shards"),
            _type=values.get("type"), type_version=values.get("type_version"),
            version=values.get("version"), last_in_batch=values.get("last_in_batch"),
            offset=values.get("offset"), topic=values.get("topic"))

    @staticmethod
    def _body_from_json(body: Any, content_type: Optional[str]) -> Any:
        if not isinstance(body, str):
            return body
        import base64
        import binascii

        try:
            raw = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            return body
        return parse_body(raw, content_type, complain=False)

    def __repr__(self) -> str:
        return self.to_json()


def _timestamp_from_json(value: Any) -> Any:
    if isinstance(value, (int, float)):
        return utc(value)
    if isinstance(value, str):
        import datetime

        try:
            return datetime.datetime.fromisoformat(value)
        except ValueError:
            pass
    return value


def utc(seconds: float) -> datetime.datetime:
    """The time in UTC, without a zone."""
    import datetime

    return datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)


def parse_body(raw: bytes, content_type: Any, complain: bool = True) -> Any:
    """What `body` is: the value of the JSON if the type is exactly application/json; the bytes,
    and a line on stderr, where that is no JSON."""
    if content_type != "application/json" and content_type != b"application/json":
        return raw
    import json

    try:
        return json.loads(raw.decode())
    except (ValueError, RecursionError) as exc:
        if complain:
            import sys

            sys.stderr.write(f"{exc}\n")
        return raw
