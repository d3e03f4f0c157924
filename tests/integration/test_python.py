"""Python handlers over HTTP: what events look like, what becomes of results. Everything here runs
with both workers: the extension, and the one in pure Python."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from http_raw import build_request
from stator_proc import Stator, patience, python_options, wait_until

RESULTS = """
    import datetime, math

    class Odd:
        def __repr__(self):
            return "<odd>"

    RESULTS = {
        "str": lambda r: "text \\u00e9",
        "bytes": lambda r: b"\\x00\\xff raw",
        "dict": lambda r: {"a": 1, "b": [True, None], "e": "\\u00e9"},
        "nan": lambda r: {"n": math.nan, "i": math.inf, "o": Odd()},
        "list": lambda r: ["first", "second"],
        "empty list": lambda r: [],
        "none": lambda r: None,
        "int": lambda r: 7,
        "float": lambda r: 1.5,
        "bool": lambda r: True,
        "datetime": lambda r: datetime.datetime(2020, 1, 2, 3, 4, 5),
        "status text": lambda r: (201, "made"),
        "status dict": lambda r: (202, {"a": 1}),
        "status none": lambda r: (203, None),
        "status bytes": lambda r: (200, b"b"),
        "triple": lambda r: (1, 2, 3),
        "response": lambda r: r(body="b", content_type="text/x", status_code=418,
                                headers={"X-A": "1", "X-N": 5}),
        "response dict": lambda r: r(body={"a": 1}, content_type="text/x"),
        "response list": lambda r: r(body=["a", 1]),
        "response none": lambda r: r(body=None),
        "response empty": lambda r: r(body="", status_code=204),
        "bad type": lambda r: r(body="b", content_type=123),
        "bad status": lambda r: r(body="b", status_code="201"),
        "far status": lambda r: r(body="b", status_code=1000),
        "interim": lambda r: (103, "b"),
        "interim response": lambda r: r(body="b", status_code=199),
        "split": lambda r: r(body="b", headers={"X-A": "1\\r\\nX-Evil: 2"}),
        "type twice": lambda r: r(body="b", content_type="text/x",
                                  headers={"Content-Type": "text/y"}),
        "framing": lambda r: r(body="whole", headers={"Content-Length": "2", "Connection": "close",
                                                      "Transfer-Encoding": "chunked"}),
        "raise": lambda r: 1 / 0,
        "exit": lambda r: exit(3),
    }

    def handler(context, event):
        if event.path == "/interrupt":
            raise KeyboardInterrupt("stop")
        return RESULTS[event.body.decode()](context.Response)
"""

OUTCOMES = """
    import stator

    class Busy(stator.Retry):
        def __init__(self):
            super().__init__(2, "busy")

    OUTCOMES = {
        "retry": lambda: stator.Retry(),
        "retry later": lambda: stator.Retry(1.2, "not yet"),
        "retry now": lambda: stator.Retry(0, "now"),
        "busy": Busy,
        "reject": lambda: stator.Reject("no \u20ac"),
        "reject dumbly": lambda: stator.Reject(),
    }

    def handler(context, event):
        outcome = OUTCOMES[event.body.decode()]()
        if event.path == "/pieces":
            def pieces():
                raise outcome
                yield b""
            return pieces()
        if event.path == "/raise":
            raise outcome
        return outcome
"""

EVENT = """
    def handler(context, event):
        if event.path == "/body":
            return event.body if isinstance(event.body, bytes) else repr(event.body)
        return {
            "kind": event.trigger.kind, "name": event.trigger.name, "id": event.id,
            "content_type": event.content_type, "body": repr(event.body),
            "headers": dict(event.headers), "fields": dict(event.fields), "method": event.method,
            "path": event.path, "url": event.url, "shard_id": event.shard_id,
            "num_shards": event.num_shards, "offset": event.offset, "topic": event.topic,
            "size": event.size, "type": event.type, "version": event.version,
            "type_version": event.type_version,
            "timestamp": event.timestamp.isoformat(), "context": context.trigger.kind,
            "worker_id": context.worker_id}
"""


@pytest.fixture(name="serving", scope="module", params=["native", "portable"])
def serving_fixture(request: pytest.FixtureRequest,
                    tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Stator]]:
    """serving(code): one processor for all tests that ask for the same code and worker."""
    servers: dict[str, Stator] = {}

    def get(code: str) -> Stator:
        if code not in servers:
            folder = tmp_path_factory.mktemp("python")
            options = python_options(folder, code, request.param, workers=2)
            servers[code] = Stator(folder, "", **options)
        return servers[code]

    try:
        yield get
        for s in servers.values():
            s.stop()
    finally:
        for s in servers.values():
            s.kill()


TEXT, JSON = "text/plain", "application/json"


@pytest.mark.parametrize("what, status, kind, body", [
    ("str", 200, TEXT, "text é".encode()),
    ("bytes", 200, TEXT, b"\x00\xff raw"),
    ("dict", 200, JSON, b'{"a": 1, "b": [true, null], "e": "\\u00e9"}'),
    ("nan", 200, JSON, b'{"n": "NaN", "i": "Infinity", "o": "<odd>"}'),
    ("list", 200, TEXT, b"first"),
    ("empty list", 200, JSON, b"[]"),
    ("none", 200, TEXT, b"None"),
    ("int", 200, TEXT, b"7"),
    ("float", 200, TEXT, b"1.5"),
    ("bool", 200, TEXT, b"True"),
    ("datetime", 200, TEXT, b"2020-01-02 03:04:05"),
    ("status text", 201, TEXT, b"made"),
    ("status dict", 202, JSON, b'{"a": 1}'),
    ("status none", 203, JSON, b"null"),
    ("status bytes", 200, JSON, b'"b\'b\'"'),
    ("triple", 200, TEXT, b"(1, 2, 3)"),
    ("response", 418, "text/x", b"b"),
    ("response dict", 200, JSON, b'{"a": 1}'),
    ("response list", 200, TEXT, b"['a', 1]"),
    ("response none", 200, TEXT, b"None"),
    ("type twice", 200, "text/x", b"b"),
])
def test_results(serving, what, status, kind, body):
    answer = serving(RESULTS).post(what.encode())
    assert (answer.status, answer.header("Content-Type"), answer.body) == (status, kind, body)


@pytest.mark.parametrize("what, text", [
    ("bad type", b"json: cannot unmarshal number into Go struct field Result.content_type of type "
                 b"string"),
    ("bad status", b"json: cannot unmarshal string into Go struct field Result.status_code of type "
                   b"int"),
    ("far status", b"the handler's status 1000 is not in 200 to 599"),
    ("interim", b"the handler's status 103 is not in 200 to 599"),
    ("interim response", b"the handler's status 199 is not in 200 to 599"),
])
def test_unusable_responses_are_500(serving, what, text):
    answer = serving(RESULTS).post(what.encode())
    assert answer.status == 500 and text in answer.body
    assert answer.header("Content-Type").startswith("text/plain")


def test_headers_of_a_response(serving):
    s = serving(RESULTS)
    answer = s.post(b"response")
    assert (answer.header("X-A"), answer.header("X-N")) == ("1", "5")
    answer = s.post(b"split")
    assert answer.header("X-Evil") is None and "X-Evil: 2" in answer.header("X-A")
    with s.connect() as c:  # the processor frames by itself
        answer = c.ask("POST", "/", b"framing")
        assert answer.body == b"whole" and answer.header("Content-Length") == "5"
        assert c.ask("POST", "/", b"int").body == b"7"
        assert c.ask("POST", "/", b"response empty").status == 204
        assert c.ask("POST", "/", b"int").body == b"7"


@pytest.mark.parametrize("target, what, text, last", [
    ("/", "raise", 'Exception caught in handler - "division by zero": ',
     "ZeroDivisionError: division by zero"),
    ("/", "exit", 'Exception caught in handler - "3": ', "SystemExit: 3"),
    ("/interrupt", "", 'Exception caught in handler - "stop": ', "KeyboardInterrupt: stop"),
])
def test_exceptions_are_500_with_their_traceback(serving, target, what, text, last):
    """Also those that would end a program: the worker lives on."""
    s = serving(RESULTS)
    before = s.metric("stator_worker_restarts_total")
    answer = s.post(what.encode(), target)
    body = answer.body.decode()
    assert (answer.status, answer.header("Content-Type")) == (500, TEXT)
    assert body.startswith(text) and "handler.py" in body and last in body
    assert s.post(b"int").body == b"7"
    assert s.metric("stator_worker_restarts_total") == before


def test_what_an_event_has(serving):
    answer = serving(EVENT).post(b"body", "/a%20b//c/../d?x=1&y=a+b&x=2", headers=[
        ("Content-Type", "text/x"), ("x-own-one", "1"), ("X-Own-One", "2")])
    event = json.loads(answer.body)
    headers = event.pop("headers")
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", event.pop("id"))
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d", event.pop("timestamp"))
    assert event.pop("worker_id") in ("0", "1")
    assert event == {
        "kind": "http", "name": "http", "content_type": "text/x", "body": "b'body'",
        "fields": {"x": "2", "y": "a b"}, "method": "POST", "path": "/a b/d", "url": "",
        "shard_id": -1, "num_shards": 0, "offset": 0, "topic": "", "size": 4, "type": "",
        "version": "", "type_version": "", "context": "http"}
    assert headers["X-Own-One"] == "2" and headers["Host"] == "test"
    assert headers["Content-Length"] == "4" and headers["Content-Type"] == "text/x"


@pytest.mark.parametrize("kind, body, seen", [
    ("application/json", b'{"a": [1, 2]}', b"{'a': [1, 2]}"),
    ("application/json; charset=utf-8", b'{"a": 1}', b'{"a": 1}'),
    ("application/json", b'{"a"', b'{"a"'),
    ("text/plain", b"1", b"1"),
    ("application/json", b"1", b"1"),
])
def test_json_bodies(serving, kind, body, seen):
    answer = serving(EVENT).post(body, "/body", headers=[("Content-Type", kind)])
    assert (answer.status, answer.body) == (200, seen)


def test_ids_are_unique(serving):
    with serving(EVENT).connect() as c:
        ids = {json.loads(c.ask("GET").body)["id"] for _ in range(50)}
    assert len(ids) == 50


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_methods(serving, method):
    event = json.loads(serving(EVENT).request(method, "/").body)
    assert (event["method"], event["body"], event["size"]) == (method, "b''", 0)


# Cloud events

STRUCTURED = "application/cloudevents+json; charset=utf-8"


@pytest.mark.parametrize("path", ["/return", "/raise", "/pieces"])
@pytest.mark.parametrize("what, status, after, body", [
    ("retry", 503, "0", ""),
    ("retry later", 503, "2", "not yet"),
    ("retry now", 503, "1", "now"),
    ("busy", 503, "2", "busy"),
    ("reject", 400, None, "no \u20ac"),
    ("reject dumbly", 400, None, ""),
])
def test_retry_and_reject(serving, path, what, status, after, body):
    """What a client gets; a worker logs nothing of it, and goes on."""
    s = serving(OUTCOMES)
    answer = s.post(what.encode(), path)
    assert (answer.status, answer.body.decode()) == (status, body)
    assert dict(answer.headers).get("Retry-After") == after
    assert dict(answer.headers)["Content-Type"] == "text/plain"
    assert not s.log("Exception caught")


def cloud(s: Stator, body: object, headers: list[tuple[str, str]]) -> dict:
    """What the handler saw of it, without what is the same for all of them."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = s.post(content, "/path", headers=headers)
    assert answer.status == 200, answer.body
    event = json.loads(answer.body)
    assert (event["method"], event["path"], event["context"]) == ("POST", "/path", "http")
    after = json.loads(s.get().body)  # nothing of it stays with the worker
    assert after["kind"] == "http" and after["type"] == after["version"] == ""
    return event


def test_cloud_event_0_1_structured(serving):
    sent = {"cloudEventsVersion": "0.1", "eventType": "made", "eventTypeVersion": "7",
            "source": "/shop", "eventID": "e1", "eventTime": "2018-04-05T17:31:00Z",
            "contentType": "application/json", "extensions": {"X-Ext": "v"}, "data": {"a": 1}}
    seen = cloud(serving(EVENT), sent, [("Content-Type", STRUCTURED), ("X-Http", "1")])
    assert (seen["id"], seen["type"], seen["type_version"], seen["version"]) == (
        "e1", "made", "7", "0.1")
    assert seen["timestamp"] == "2018-04-05T17:31:00"
    assert (seen["kind"], seen["name"]) == ("/shop", "/shop")
    assert seen["content_type"] == "application/json" and seen["body"] == "{'a': 1}"
    assert seen["headers"] == {"X-Ext": "v"}
    seen = cloud(serving(EVENT), {**sent, "contentType": "text/plain", "data": "text"},
                 [("Content-Type", STRUCTURED)])
    assert (seen["body"], seen["size"], seen["content_type"]) == ("b'text'", 4, "text/plain")


def test_cloud_event_0_1_binary(serving):
    seen = cloud(serving(EVENT), b"text", [
        ("CE-CloudEventsVersion", "0.1"), ("CE-EventID", "e2"), ("CE-Source", "/shop"),
        ("CE-Name", "till"), ("CE-EventType", "made"), ("CE-EventTypeVersion", "7"),
        ("CE-EventTime", "2018-04-05T17:31:00+02:00"), ("Content-Type", "text/plain")])
    assert (seen["id"], seen["type"], seen["type_version"], seen["version"]) == (
        "e2", "made", "7", "0.1")
    assert seen["timestamp"] == "2018-04-05T15:31:00"
    assert (seen["kind"], seen["name"]) == ("/shop", "till")
    assert (seen["body"], seen["content_type"]) == ("b'text'", "text/plain")


@pytest.mark.parametrize("more, body, kind", [
    ({"data": {"a": [1]}}, "{'a': [1]}", "application/json"),
    ({"data": "<a/>", "datacontenttype": "text/xml"}, "b'<a/>'", "text/xml"),
    ({"data_base64": "/wA=", "datacontenttype": "image/png"}, "b'\\xff\\x00'", "image/png"),
])
def test_cloud_event_1_0_structured(serving, more, body, kind):
    seen = cloud(serving(EVENT), {
        "specversion": "1.0", "id": "e3", "source": "/shop", "type": "made", "subject": "s",
        "time": "2024-01-02T03:04:05Z", **more}, [("Content-Type", STRUCTURED)])
    assert (seen["id"], seen["type"], seen["version"]) == ("e3", "made", "1.0")
    assert seen["timestamp"] == "2024-01-02T03:04:05" and seen["kind"] == "/shop"
    assert (seen["body"], seen["content_type"]) == (body, kind)
    assert seen["headers"] == {"subject": "s"}


def test_cloud_event_1_0_binary(serving):
    seen = cloud(serving(EVENT), b'{"a": 1}', [
        ("ce-specversion", "1.0"), ("ce-id", "e4"), ("ce-source", "/shop"), ("ce-type", "made"),
        ("ce-time", "2024-01-02T03:04:05Z"), ("Content-Type", "application/json")])
    assert (seen["id"], seen["type"], seen["version"]) == ("e4", "made", "1.0")
    assert seen["timestamp"] == "2024-01-02T03:04:05" and seen["kind"] == "/shop"
    assert seen["body"] == "{'a': 1}" and seen["headers"]["Ce-Source"] == "/shop"


def test_bad_cloud_events_are_500(serving):
    s = serving(EVENT)
    for body in (b"{", b"[]", b'{"eventTime": "yesterday"}'):
        answer = s.post(body, headers=[("Content-Type", STRUCTURED)])
        assert answer.status == 500 and answer.header("Content-Type").startswith(TEXT)
        assert answer.body != b""
    assert s.get().status == 200


def test_text_that_is_no_utf8_fails_its_event_only(serving):
    with serving(EVENT).connect() as c:
        c.send(b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.read_response().status == 500
        assert c.ask("GET").status == 200


# Logs

LOGS = """
    import sys

    def handler(context, event):
        context.logger.debug("a detail")
        context.logger.info_with("Got it", size=len(event.body), nested={"a": [1]}, own="\\u00e9")
        if event.path == "/print":
            print("on stdout")
            print("on stderr", file=sys.stderr)
        if event.path == "/many":
            context.logger.info("x" * 5000)
        if event.path == "/raise":
            raise ValueError("oh")
        return "done"
"""


def logs_of(answer) -> list[dict]:
    return json.loads(answer.header("X-Nuclio-Logs").encode("latin-1"))


@pytest.mark.parametrize("level, messages", [
    ("debug", ["a detail", "Got it"]), ("info", ["Got it"]), ("error", []),
])
def test_logs_for_the_client(serving, level, messages):
    answer = serving(LOGS).post(b"123", headers=[("X-Nuclio-Log-Level", level)])
    logs = logs_of(answer)
    assert [record["message"] for record in logs] == messages
    if messages:
        record = logs[-1]
        assert (record["level"], record["name"], record["size"]) == ("info", "http", 3)
        assert record["nested"] == {"a": [1]} and record["worker_id"] in ("0", "1")
        assert record["own"] == "é" and record["time"] > 1.6e12


def test_logs_of_an_exception_and_of_nobody(serving):
    s = serving(LOGS)
    assert s.post(b"").header("X-Nuclio-Logs") is None
    answer = s.post(b"", "/raise", headers=[("X-Nuclio-Log-Level", "info")])
    assert answer.status == 500
    assert [r["level"] for r in logs_of(answer)] == ["info", "error"]
    assert logs_of(answer)[1]["message"] == "Exception caught in handler"
    answer = s.post(b"", "/many", headers=[("X-Nuclio-Log-Level", "info")])
    assert answer.status == 200 and answer.header("X-Nuclio-Logs") is None  # longer than 4096


def test_what_is_printed_is_in_the_log(serving):
    s = serving(LOGS)
    assert s.post(b"", "/print").body == b"done"
    record = s.wait_log("on stdout")
    assert (record["level"], record["stream"]) == ("info", "stdout")
    assert record["worker_id"] in (0, 1)
    record = s.wait_log("on stderr")
    assert (record["level"], record["stream"]) == ("warn", "stderr")


def test_printed_lines_name_worker_and_event(python, tmp_path):
    """The event is named while it runs: afterwards a line may be anybody's."""
    s = python("""
        import os, sys, time

        def handler(context, event):
            print("printed")
            print("complained", file=sys.stderr)
            while not os.path.exists(event.body.decode()):
                time.sleep(0.01)
            return {"id": event.id, "worker": context.worker_id}
    """)
    go = tmp_path / "go"
    with s.connect() as c:
        c.send(build_request("POST", "/", str(go).encode()))
        printed, complained = s.wait_log("printed"), s.wait_log("complained")
        go.touch()
        seen = json.loads(c.read_response().body)
    for record in (printed, complained):
        assert record["event_id"] == seen["id"] and str(record["worker_id"]) == seen["worker"]


# Triggers that share workers

def test_environment(python):
    """spec.env, with what Kubernetes puts beside it (valueFrom), and what workerEnv names; nothing
    else of the processor's reaches a worker."""
    s = python("""
        import os

        def handler(context, event):
            return os.environ.get(event.body.decode(), "(none)")
    """, spec={"env": [{"name": "GIVEN", "value": "high"}, {"name": "EMPTY", "value": ""},
                       {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
                       {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "a", "key": "c"}}}]},
        own={"workerEnv": ["ONE", "SOME_*"]},
        env={"GIVEN": "low", "FROM": "the pod", "ONE": "1", "SOME_A": "2", "SECRET": "3"})
    for name, value in {"GIVEN": b"high", "EMPTY": b"", "FROM": b"the pod", "GONE": b"(none)",
                        "ONE": b"1", "SOME_A": b"2", "SECRET": b"(none)",
                        "NUCLIO_FUNCTION_NAME": b"test"}.items():
        assert s.post(name.encode()).body == value, name


def test_two_triggers_on_one_pool(python):
    """A worker sees which of them an event came from."""
    s = python("""
        def handler(context, event):
            context.logger.info_with("Event", kind=event.trigger.kind, trigger=event.trigger.name,
                                     body=event.body.decode(), own=context.trigger.name,
                                     at=context.trigger.kind)
            return event.trigger.kind
        """, trigger={"workerAllocatorName": "both"}, spec={"triggers": {
            "http": {"kind": "http", "url": "127.0.0.1:0", "workerAllocatorName": "both"},
            "clock": {"kind": "cron", "workerAllocatorName": "both",
                      "attributes": {"interval": "100ms", "event": {"body": "tick"}}}}})
    assert s.get().body == b"http"
    wait_until(lambda: [r for r in s.log("Event") if r["kind"] == "cron"])
    cron = next(r for r in s.log("Event") if r["kind"] == "cron")
    http = next(r for r in s.log("Event") if r["kind"] == "http")
    assert (cron["trigger"], cron["body"], http["trigger"]) == ("clock", "tick", "http")
    assert cron["own"] == http["own"] == "both" and cron["at"] == http["at"] == ""
    assert s.metric("stator_workers") == 1


# Asynchronous

def test_a_hundred_that_wait_take_as_long_as_one(python):
    s = python("""
        import asyncio

        async def handler(context, event):
            await asyncio.sleep(0.1)
            return event.body
        """, trigger={"maxConcurrency": 100})
    with s.connect() as c:
        assert c.ask("POST", "/", b"warm").body == b"warm"
    connections = [s.connect() for _ in range(100)]
    begin = time.monotonic()
    for n, c in enumerate(connections):
        c.send(build_request("POST", "/", b"%d" % n))
    for n, c in enumerate(connections):
        assert c.read_response().body == b"%d" % n
        c.close()
    assert time.monotonic() - begin < patience(2)  # one after another: 10 s
