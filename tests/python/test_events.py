"""What a handler sees of an event: every row of the table of event fields, bodies, text that is no
UTF-8, and cloud events."""

import json
import struct

import pytest
from wire_peer import Peer, pack_headers, record

HANDLER = '''
import datetime, json
NAMES = ("content_type", "fields", "headers", "id", "method", "path", "size", "url", "shard_id",
         "num_shards", "type", "type_version", "version", "offset", "topic", "last_in_batch",
         "header_list", "target", "query", "scheme", "attempt", "http_version", "peer",
         "timestamp_ns", "position", "trace_parent", "is_tombstone")

def handler(context, event):
    if event.path == "/changed":
        event.body, event.extra, event.headers["X-New"] = b"new", 5, "1"
        return [{"body": event.body.decode(), "extra": event.extra, "headers": event.headers,
                 "json": json.loads(event.to_json())}]
    if event.path == "/attribute":
        try:
            event.nothing
        except AttributeError as exc:
            return str(exc)
    if event.path == "/copy":
        import copy
        other = copy.copy(event)
        other.path = "/other"
        return [event.path, other.path, other.body.decode()][0] + other.body.decode()
    if event.path == "/header":
        return str([event.get_header(name) for name in ("x-one", "X-ONE", "none")])
    if event.path == "/back":
        other = type(event).from_json(event.to_json())
        return f"{other.body} {other.method} {other.id == event.id} {other.timestamp}"
    seen = {name: getattr(event, name) for name in NAMES}
    if event.shard_id >= 0:
        seen["one"] = repr(event.get_header("X-ONE"))
        for name in ("headers", "header_list"):
            seen[name] = repr(seen[name])
    assert isinstance(event.timestamp, datetime.datetime) and event.timestamp.tzinfo is None
    seen["timestamp"] = str(event.timestamp)
    seen["trigger"] = [event.trigger.kind, event.trigger.name]
    seen["body"] = repr(event.body)
    seen["raw_body"] = repr(event.raw_body)
    seen["key"] = repr(event.key)
    return json.dumps(seen)
'''


@pytest.fixture(scope="module")
def worker(plane, tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    (folder / "h.py").write_text(HANDLER)
    with Peer("h:handler", folder, **plane, worker=3,
              triggers=[("http", "web"), ("kafka-cluster", "stream")]) as peer:
        yield peer


def seen(worker, body=None, **kw):
    answer = worker.call(body, **kw)
    assert answer.status == 200, answer.text
    return json.loads(answer.text)


def test_http_fields(worker):
    seq = worker.send(b"body", method="POST", path="/a b", query="a=1&b=x+y&a=2&c&%64=%41%2f&e=%zz",
                      content_type="text/x; charset=utf-8",
                      headers=[("x-one", "1"), ("X-TWO-three", "2"), ("x-one", "3"),
                               ("host", "h:1"), ("user-agent", "u"), ("cookie", "c=d")])
    found = json.loads(worker.answer(seq).text)
    assert found["id"] == worker.ids[seq]
    assert found["method"] == "POST" and found["path"] == "/a b"
    assert found["content_type"] == "text/x; charset=utf-8"
    assert found["headers"] == {
        "X-One": "3", "X-Two-Three": "2", "Host": "h:1", "User-Agent": "u", "Cookie": "c=d",
        "Content-Type": "text/x; charset=utf-8"}
    assert found["header_list"][:3] == [["x-one", "1"], ["X-TWO-three", "2"], ["x-one", "3"]]
    assert found["fields"] == {"a": "2", "b": "x y", "c": "", "d": "A/", "e": "%zz"}
    assert found["body"] == found["raw_body"] == "b'body'" and found["size"] == 4
    assert found["timestamp"] == "2023-11-14 22:13:20"
    assert found["timestamp_ns"] == 1_700_000_000_500_000_000
    assert (found["shard_id"], found["num_shards"], found["offset"]) == (-1, 0, 0)
    assert found["trigger"] == ["http", "web"] and found["peer"] == ["127.0.0.1", 4711]
    assert all(found[name] == "" for name in ("url", "type", "type_version", "version", "topic"))
    assert found["attempt"] == 1 and found["http_version"] == 11 and not found["last_in_batch"]


def test_stream_fields(worker):
    found = seen(worker, b"m", http_version=0, trigger=1, method="", topic="t", shard=2, shards=5,
                 offset=77, lo=8, key=b"\xffk", attempt=2,
                 headers=[("x-lower", "kept"), ("x-one", b"\xff\0"), ("x-lower", b"")])
    assert found["trigger"] == ["kafka-cluster", "stream"]
    assert (found["topic"], found["shard_id"], found["num_shards"], found["offset"]) == (
        "t", 2, 5, 77)
    assert found["position"] == [77, 8] and found["attempt"] == 2
    assert found["key"] == repr(b"\xffk")
    assert found["headers"] == repr({"x-lower": b"", "x-one": b"\xff\0"})
    assert found["header_list"] == repr([("x-lower", b"kept"), ("x-one", b"\xff\0"),
                                         ("x-lower", b"")])
    assert found["one"] == repr(b"\xff\0")
    assert found["method"] == "" and found["content_type"] == ""
    assert not found["is_tombstone"]


def test_tombstone(worker):
    found = seen(worker, http_version=0, trigger=1, method="", topic="t", shard=0, key="k",
                 tombstone=True)
    assert found["is_tombstone"] and found["body"] == "b''" and found["size"] == 0


def test_empty_event(worker):
    found = seen(worker, path="")
    assert found["path"] == "/" and found["body"] == "b''" and found["size"] == 0
    assert found["headers"] == {} and found["fields"] == {}


@pytest.mark.parametrize("content_type, body, wanted", [
    ("application/json", b'{"a": [1]}', {"a": [1]}),
    ("application/json", b"12", 12),
    ("application/json; charset=utf-8", b'{"a": 1}', b'{"a": 1}'),
    ("application/JSON", b"{}", b"{}"),
    ("text/plain", b"{}", b"{}"),
    (None, b"\xff\x00", b"\xff\x00"),
])
def test_body(worker, content_type, body, wanted):
    found = seen(worker, body, content_type=content_type)
    assert found["body"] == repr(wanted) and found["raw_body"] == repr(body)
    assert found["size"] == len(body)


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100000])
def test_body_that_is_no_json_stays_bytes(worker, body):
    before = len(worker.output)
    assert seen(worker, body, content_type="application/json")["body"] == repr(body)
    assert len(worker.output) > before  # a line on stderr


def test_events_are_plain_objects(worker):
    found = json.loads(worker.call(b"old", path="/changed", headers=[("a", "b")]).text)
    assert found["body"] == "new" and found["extra"] == 5
    assert found["headers"] == {"A": "b", "X-New": "1"}
    assert found["json"]["extra"] == 5 and found["json"]["body"] == "bmV3"
    assert found["json"]["headers"] == found["headers"] and "raw_body" not in found["json"]
    assert "Event' object has no attribute 'nothing'" in worker.call(path="/attribute").text
    assert worker.call(b"x", path="/copy").text == "/copyx"
    assert worker.call(path="/header", headers=[("X-One", "1")]).text == "['1', '1', None]"
    assert worker.call(b"\x80", path="/back", method="PUT").text == (
        "b'\\x80' PUT True 2023-11-14 22:13:20")


@pytest.mark.parametrize("bad", [
    {"path": b"/\xff"}, {"method": b"G\xff"}, {"headers": [("X", b"\xff")]},
    {"headers": [(b"\xff", "x")]}, {"headers": [("X", b"\xc3"), (b"\xa9", "y")]},
    {"query": b"a=\xff"}, {"query": "a=%ff"}, {"content_type": b"\xff"}, {"topic": b"\xff"}])
def test_text_that_is_no_utf8_fails_that_event_only(worker, bad):
    answer = worker.call(**bad)
    assert answer.status == 500 and answer.outcome == 1
    assert "'utf-8' codec can't decode" in answer.text
    (log,) = worker.logs_of(answer.seq)
    assert log.level == "error" and answer.flags == 2
    assert worker.call().status == 200


def test_strings_that_are_not_decoded(peer):
    one = peer("def handler(context, event):\n"
               "    return repr((event.path, event.headers, event.fields, event.method,\n"
               "                 event.content_type, event.get_header(b'x-a'), event.body))\n",
               env={"NUCLIO_PYTHON_DECODE_EVENT_STRINGS": "false"})
    answer = one.call(b"{}", path=b"/\xff", headers=[("x-a", b"\xfe")], query=b"\xfd=1",
                      content_type="application/json")
    assert answer.text == repr((
        b"/\xff", {b"X-A": b"\xfe", b"Content-Type": b"application/json"}, {b"\xfd": b"1"},
        b"GET", b"application/json", b"\xfe", {}))


def test_unknown_sections_and_longer_meta_are_skipped(worker):
    seq, data = worker.event_record(b"x")
    (offset, length) = struct.unpack_from("<II", data, 16 + 4)  # META comes first
    meta = data[offset:offset + length] + b"more to come" + bytes(4)
    made = record(1, seq, [(999, b"?"), (1, meta), (6, b"GET"), (7, b"/"),
                           (4, pack_headers([("a", "b")])), (2, b"x"), (1000, b"")])
    worker.write(made)
    assert json.loads(worker.answer(seq).text)["headers"] == {"A": "b"}


def test_large_bodies(peer):
    one = peer("def handler(context, event):\n    return event.body\n")
    for size in (1, 65536, 65537, 3 << 20):
        body = bytes(range(256)) * (size // 256) + bytes(size % 256)
        assert one.call(body).body == body


# Cloud events

V01 = {"cloudEventsVersion": "0.1", "eventType": "t", "eventTypeVersion": "tv", "source": "/s",
       "eventID": "e1", "eventTime": "2018-04-05T17:31:00.5Z", "contentType": "text/x",
       "extensions": {"X-Ext": "v"}, "data": "text"}
STRUCTURED = "application/cloudevents+json; charset=utf-8"


def test_cloud_event_0_1_structured(worker):
    found = seen(worker, json.dumps(V01), method="POST", path="/p", content_type=STRUCTURED,
                 headers=[("x-http", "1")])
    assert (found["id"], found["type"], found["type_version"], found["version"]) == (
        "e1", "t", "tv", "0.1")
    assert found["timestamp"] == "2018-04-05 17:31:00.500000"
    assert found["trigger"] == ["/s", "/s"] and found["content_type"] == "text/x"
    assert found["headers"] == {"X-Ext": "v"}
    assert found["body"] == "b'text'" and found["size"] == 4
    assert found["method"] == "POST" and found["path"] == "/p"
    # Nothing of it is left in the next one.
    after = seen(worker, b"x")
    assert after["type"] == after["version"] == "" and after["trigger"] == ["http", "web"]
    less = seen(worker, json.dumps({"cloudEventsVersion": "0.1", "data": {"a": 1}}),
                content_type="application/cloudevents")
    assert less["body"] == "{'a': 1}" and less["type"] == "" and less["headers"] == {}
    assert less["timestamp"] == "2023-11-14 22:13:20" and less["content_type"] == ""


def test_cloud_event_0_1_structured_json_text(worker):
    found = seen(worker, json.dumps({**V01, "contentType": "application/json", "data": "[1]"}),
                 content_type=STRUCTURED)
    assert found["body"] == "[1]" and found["raw_body"] == "b'[1]'"


def test_cloud_event_0_1_binary(worker):
    found = seen(worker, b"[2]", content_type="application/json", headers=[
        ("CE-CloudEventsVersion", "0.1"), ("ce-eventid", "e2"), ("CE-Source", "/s"),
        ("CE-Name", "n"), ("CE-EventType", "t"), ("CE-EventTypeVersion", "tv"),
        ("CE-EventTime", "2018-04-05T17:31:00+02:00")])
    assert (found["id"], found["type"], found["type_version"], found["version"]) == (
        "e2", "t", "tv", "0.1")
    assert found["trigger"] == ["/s", "n"] and found["timestamp"] == "2018-04-05 15:31:00"
    assert found["body"] == "[2]" and found["headers"]["Ce-Source"] == "/s"


V1 = {"specversion": "1.0", "id": "e3", "source": "/s", "type": "t", "time": "2024-01-02T03:04:05Z",
      "subject": "sub", "myext": "v"}


@pytest.mark.parametrize("more, body, content_type", [
    ({"data": {"a": 1}}, {"a": 1}, "application/json"),
    ({"data": "x", "datacontenttype": "application/json"}, "x", "application/json"),
    ({"data": "<a/>", "datacontenttype": "text/xml"}, b"<a/>", "text/xml"),
    ({"data_base64": "/wA=", "datacontenttype": "image/png"}, b"\xff\x00", "image/png"),
    ({"data_base64": "WzFd", "datacontenttype": "application/json"}, [1], "application/json"),
    ({}, b"", "application/json"),
    ({"data": None}, None, "application/json"),
])
def test_cloud_event_1_0_structured(worker, more, body, content_type):
    found = seen(worker, json.dumps({**V1, **more}), content_type=STRUCTURED)
    assert (found["id"], found["type"], found["version"]) == ("e3", "t", "1.0")
    assert found["timestamp"] == "2024-01-02 03:04:05" and found["trigger"] == ["/s", "/s"]
    assert found["headers"] == {"subject": "sub", "myext": "v"}
    assert found["body"] == repr(body) and found["content_type"] == content_type


def test_cloud_event_1_0_binary(worker):
    found = seen(worker, b"x", content_type="text/plain", headers=[
        ("ce-specversion", "1.0"), ("ce-id", "e4"), ("ce-source", "/s"), ("ce-type", "t"),
        ("ce-time", "2024-01-02T03:04:05.123456789Z"), ("ce-subject", "sub")])
    assert (found["id"], found["type"], found["version"]) == ("e4", "t", "1.0")
    assert found["trigger"] == ["/s", "/s"] and found["headers"]["Ce-Subject"] == "sub"
    assert found["timestamp"] == "2024-01-02 03:04:05.123456" and found["body"] == "b'x'"


def test_cloud_event_batch_is_left_alone(worker):
    found = seen(worker, b"[]", content_type="application/cloudevents-batch+json")
    assert found["body"] == "b'[]'"


@pytest.mark.parametrize("body, headers, text", [
    (b"{", [], "no JSON: Expecting property name"), (b"[]", [], "no JSON object"),
    (b'{"eventTime": "yesterday"}', [], "RFC 3339"), (b'{"eventID": 5}', [], "eventID is no text"),
    (b'{"extensions": 1}', [], "extensions"),
    (b'{"specversion": "1.0", "data_base64": "!"}', [], "data_base64"),
    (b"x", [("ce-specversion", "1.0"), ("ce-time", "2024-01-02T03:04:05")], "no zone")])
def test_bad_cloud_events(worker, body, headers, text):
    answer = worker.call(body, headers=headers, content_type=None if headers else STRUCTURED)
    assert answer.status == 500 and text in answer.text
    assert worker.call().status == 200
