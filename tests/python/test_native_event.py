"""Events as handlers see them: the extension with a peer that is the processor's side."""

import datetime
import json
from typing import Any

import ring_peer as wire

HEADERS = [(b"host", b"x"), (b"X-API-key", b"k"), (b"content-TYPE", b"text/x"), (b"a", b"1"),
           (b"A", b"2"), (b"x-" + b"long" * 30, b"v")]


def ask(w: Any, code: str, *records: bytes) -> Any:
    """What eval(code) is for the last event, by way of JSON."""
    records = records or (wire.event(1),)
    w.write(*records[:-1], wire.event(999, sections=[(wire.KEY, code.encode())]), records[-1])
    replies = [w.reply() for _ in range(len(records) + 1)]
    assert replies[-1].result.status == 200, replies[-1].body.decode()
    return json.loads(replies[-1].body)


EVAL = """
    import copy, datetime, gc, json, pickle, weakref
    code = kept = None
    def handler(context, event):
        global code, kept
        if event._seq == 999:
            code = event.key.decode()
            return "ok"
        return json.dumps(eval(code), default=repr)
    def attributes(event, *names):
        return [getattr(event, name) for name in names]
    def put(event, **values):
        for name, value in values.items():
            setattr(event, name, value)
        return event
    """


def test_http(worker) -> None:
    w = worker(EVAL)
    record = wire.event(
        5, b"hello", HEADERS, [(wire.TARGET, b"/a%20b?x=1"), (wire.SCHEME, b"http"),
                               (wire.PEER, b"::1"), (wire.TRACE_PARENT, b"00-1")],
        method=b"PATCH", path="/a b\u00e4".encode(), content_type=b"text/x",
        query=b"a=1&b=%41+c%2&a=2&&c&=d&%c3%a4=%E2%82%AC%", log_level=1)
    names = ["body", "raw_body", "content_type", "trigger", "id", "method", "path", "size", "url",
             "shard_id", "num_shards", "offset", "topic", "type", "type_version", "version",
             "last_in_batch", "target", "scheme", "query", "peer", "trace_parent", "attempt",
             "http_version", "position", "key", "timestamp_ns", "_log_level", "_logged"]
    values = dict(zip(names, ask(w, f"attributes(event, *{names})", record), strict=True))
    assert values == {
        "body": "b'hello'", "raw_body": "b'hello'", "content_type": "text/x",
        "trigger": "the trigger", "id": "00000000-0000-0000-0000-000000000005",
        "method": "PATCH", "path": "/a b\u00e4", "size": 5, "url": "", "shard_id": -1,
        "num_shards": 0, "offset": 0, "topic": "", "type": "", "type_version": "", "version": "",
        "last_in_batch": False, "target": "/a%20b?x=1", "scheme": "http",
        "query": "a=1&b=%41+c%2&a=2&&c&=d&%c3%a4=%E2%82%AC%", "peer": ["::1", 1234],
        "trace_parent": "00-1", "attempt": 1, "http_version": 11, "position": [0, 0],
        "key": "b''", "timestamp_ns": 1_700_000_000_123_456_789, "_log_level": 1,
        "_logged": False}
    assert ask(w, "event.fields", record) == {"a": "2", "b": "A c%2", "c": "", "": "d",
                                              "\u00e4": "\u20ac%"}
    for _ in range(2):  # names that were met before
        assert ask(w, "event.headers", record) == {
            "Host": "x", "X-Api-Key": "k", "Content-Type": "text/x", "A": "2",
            "X-" + ("long" * 30).capitalize(): "v"}
    assert ask(w, "event.header_list", record) == [[n.decode(), v.decode()] for n, v in HEADERS]


def test_get_header(worker) -> None:
    w = worker(EVAL)
    record = wire.event(1, headers=HEADERS)
    for before in ("", "event.headers and ", "event.path and "):
        for name, value in (("x-api-KEY", "k"), ("A", "2"), ("b", None), ("", None)):
            assert ask(w, f"{before}event.get_header({name!r})", record) == value
    assert ask(w, "put(event, headers={'q': 1}).get_header('Q')", record) == 1


def test_times(worker) -> None:
    w = worker(EVAL)
    for text in ("1970-01-01 00:00:00", "2000-02-29 23:59:59", "2024-12-31 12:30:01",
                 "2100-03-01 00:00:00"):
        when = datetime.datetime.fromisoformat(text + "+00:00")
        record = wire.event(1, timestamp_ns=int(when.timestamp()) * 10**9 + 999)
        assert ask(w, "str(event.timestamp)", record) == text


def test_source(worker) -> None:
    w = worker(EVAL)
    record = wire.event(1, b"x", [(b"some-NAME", b"v")], [(wire.TOPIC, b"t"), (wire.KEY, b"\xff")],
                        method=b"", path=b"", hi=7, shard=3, http_version=0)
    assert ask(w, "attributes(event, 'topic', 'key', 'path', 'method', 'offset', 'shard_id', "
                  "'headers')", record) == ["t", "b'\\xff'", "/", "", 7, 3, {"some-NAME": "b'v'"}]


def test_json_body(worker) -> None:
    w = worker(EVAL)
    record = wire.event(1, b'{"a": 1}', content_type=b"application/json")
    assert ask(w, "[event.body, event.raw_body, event.body is event.body]", record) == [
        {"a": 1}, "b'{\"a\": 1}'", True]
    other = wire.event(1, b'{"a": 1}', content_type=b"application/json; charset=utf-8")
    assert ask(w, "event.body", other) == "b'{\"a\": 1}'"


def test_a_plain_object(worker) -> None:
    w = worker(EVAL)
    assert ask(w, "vars(put(event, body=1, mine=2))") == {"mine": 2}
    assert ask(w, "[hasattr(event, 'mine'), event.body, vars(event)]") == [False, "b''", {}]
    assert ask(w, "type(event).__name__") == "Event"
    assert ask(w, "isinstance(event, event.__class__) and event.__class__.__module__") == "__main__"
    assert ask(w, "event.to_json()", wire.event(1, path=b"/p")).startswith('{"path": "/p"')
    assert ask(w, "[delattr(event, 'path'), hasattr(event, 'path')]") == [None, False]
    assert ask(w, "vars(copy.copy(put(event, mine=1)))['mine']") == 1
    assert ask(w, "pickle.loads(pickle.dumps(event, 4)).path", wire.event(1, path=b"/p")) == "/p"


def test_text_that_is_none(worker) -> None:
    w = worker("def handler(context, event): return event.path")
    w.write(wire.event(1, path=b"/\xff"), wire.event(2, path=b"/ok"))
    assert w.reply().body.startswith(b"UnicodeDecodeError")
    assert w.reply().body == b"/ok"


def test_bytes_where_asked_for(worker) -> None:
    w = worker("""
        def handler(context, event):
            return repr([event.path, event.method, event.url, event.headers, event.fields])
        """, decode_strings=False)
    w.write(wire.event(1, b"", [(b"a-b", b"\xff")], path=b"/\xff", query=b"x=%ff"))
    assert w.reply().body == b"[b'/\\xff', b'GET', b'', {b'A-B': b'\\xff'}, {b'x': b'\\xff'}]"


def test_cloud_events_are_opened(worker) -> None:
    w = worker(EVAL)
    for record in (wire.event(1, content_type=b"Application/cloudevents+json"),
                   wire.event(1, headers=[(b"a", b"b"), (b"CE-SpecVersion", b"1.0")]),
                   wire.event(1, headers=[(b"ce-CloudEventsVersion", b"0.1")])):
        assert ask(w, "[event.path, event.type]", record) == ["/", "from the cloud"]
    assert ask(w, "event.type", wire.event(1, headers=[(b"ce-specversioN2", b"")])) == ""


def test_events_that_are_kept(worker) -> None:
    """What outlives its record in the ring has a copy."""
    w = worker("""
        kept = []
        def handler(context, event):
            if event.path == "/keep":
                kept.append(event)
                return "kept"
            return repr([(e.body, e.get_header("n")) for e in kept])
        """, ring_size=1 << 14)
    for seq in range(1, 100):
        w.write(wire.event(seq, b"body %d" % seq, [(b"N", b"%d" % seq)], path=b"/keep"))
        w.reply()
    long = b"long" * 30000
    w.write(wire.event(100, headers=[(b"n", b"x")], path=b"/keep", sections=[w.put_body(0, long)]))
    w.reply()
    w.put_body(0, bytes(len(long)))
    w.write(wire.event(101))
    expected = [(b"body %d" % seq, str(seq)) for seq in range(1, 100)] + [(long, "x")]
    assert w.reply().body == repr(expected).encode()


def test_events_in_cycles_and_weak_references(worker) -> None:
    w = worker("""
        import gc, weakref
        seen = []
        def handler(context, event):
            event.me = event
            seen.append(weakref.ref(event))
            gc.collect()
            return str(sum(ref() is not None for ref in seen))
        """)
    for seq in range(1, 20):
        w.write(wire.event(seq, b"x" * 100))
        assert w.reply().body in (b"1", b"2")


def test_current_event(worker) -> None:
    w = worker("""
        def handler(context, event):
            context.native.current_event()._logged = True
            return str(context.native.current_event() is event)
        """)
    w.write(wire.event(1))
    result = w.reply().result
    assert result.body == b"True" and result.flags == wire.LOGGED


def test_threads_may_hold_events(worker) -> None:
    w = worker("""
        import threading, time
        def handler(context, event):
            if event.path == "/later":
                box = []
                def read():
                    time.sleep(0.05)
                    box.append(event.body)
                handler.thread, handler.box = threading.Thread(target=read), box
                handler.thread.start()
                return "ok"
            handler.thread.join()
            return handler.box[0]
        """)
    w.write(wire.event(1, b"early", path=b"/later"), wire.event(2, b"other"))
    assert w.reply().body == b"ok"
    assert w.reply().body == b"early"
