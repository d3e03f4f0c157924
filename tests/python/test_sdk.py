"""The packages in a unit test, without a worker: names and behaviour of Nuclio's SDK, and
stator.testing."""

import ast
import asyncio
import datetime
import io
import json
import subprocess
import sys

import nuclio_sdk
import nuclio_sdk.context
import nuclio_sdk.event
import nuclio_sdk.json_encoder
import nuclio_sdk.logger
import nuclio_sdk.platform
import nuclio_sdk.qualified_offset
import nuclio_sdk.response
import nuclio_sdk.test
import pytest
import stator
from stator import testing
from wire_peer import LIBRARY


def init_context(context):
    context.user_data.greeting = "Hello"


def handler(context, event):
    context.logger.info_with("called", size=event.size)
    return f"{context.user_data.greeting}, {event.body.decode()}"


def test_one_set_of_classes():
    assert nuclio_sdk.Event is stator.Event is nuclio_sdk.event.Event
    assert nuclio_sdk.Response is stator.Response is nuclio_sdk.response.Response
    assert nuclio_sdk.Context is stator.Context is nuclio_sdk.context.Context
    assert nuclio_sdk.Platform is nuclio_sdk.platform.Platform
    assert nuclio_sdk.qualified_offset.QualifiedOffset is nuclio_sdk.QualifiedOffset
    assert nuclio_sdk.logger.Logger is nuclio_sdk.Logger


def test_event_defaults():
    event = nuclio_sdk.Event()
    assert event.path == "/" and event.headers == {} and event.fields == {}
    assert event.body is None and event.timestamp == 0 and event.offset == 0
    assert event.last_in_batch is False and event.trigger.kind == ""


def test_event_json():
    event = nuclio_sdk.Event(
        body=b"\x80abc", content_type="a/b", method="GET", _id="i", topic="t", shard_id=3,
        trigger=nuclio_sdk.TriggerInfo(kind="http", name="web"), headers={"A": "b"},
        timestamp=datetime.datetime(2024, 1, 2, 3, 4, 5))
    found = json.loads(event.to_json())
    assert found["body"] == "gGFiYw==" and found["trigger"] == {"kind": "http", "name": "web"}
    assert found["timestamp"] == "2024-01-02 03:04:05" and found["last_in_batch"] is False
    back = nuclio_sdk.Event.from_json(event.to_json())
    assert vars(back)["trigger"].name == "web"
    assert {k: v for k, v in vars(back).items() if k != "trigger"} == {
        k: v for k, v in vars(event).items() if k != "trigger"}
    assert json.loads(repr(event)) == found
    parsed = nuclio_sdk.Event.from_json(json.dumps(
        {"body": "eyJhIjogMX0=", "content_type": "application/json", "timestamp": 5}))
    assert parsed.body == {"a": 1} and parsed.timestamp == datetime.datetime(1970, 1, 1, 0, 0, 5)
    assert nuclio_sdk.Event.from_json('{"body": {"a": 1}}').body == {"a": 1}
    assert nuclio_sdk.Event.from_json('{"body": "no base64!"}').body == "no base64!"


def test_get_header_ignores_case():
    event = nuclio_sdk.Event(headers={"X-One": 1})
    assert event.get_header("x-one") == event.get_header("X-ONE") == 1
    assert event.get_header("two") is None


def test_response():
    response = nuclio_sdk.Response()
    assert (response.status_code, response.content_type, response.headers) == (
        200, "text/plain", {})
    assert response.body is None and response.event_id is None
    response.ensure_no_ack()
    assert response.headers == {"x-nuclio-stream-no-ack": True}
    assert "status_code=200" in repr(response)


def test_logger_streams():
    logger = nuclio_sdk.Logger("info", "name")
    text, raw, marked = io.StringIO(), io.StringIO(), io.StringIO()
    logger.set_handler("a", text, nuclio_sdk.logger.HumanReadableFormatter())
    logger.set_handler("b", raw, nuclio_sdk.logger.RawJSONFormatter())
    logger.set_handler("c", io.StringIO(), nuclio_sdk.logger.JSONFormatter())
    logger.set_handler("c", marked, nuclio_sdk.logger.JSONFormatter())
    logger.debug("hidden")
    logger.warn_with("seen %s", 1, x=float("nan"))
    assert "[warning] seen 1: {'x': nan}" in text.getvalue()
    found = json.loads(raw.getvalue())
    assert found["level"] == "warning" and found["message"] == "seen 1"
    assert found["with"] == {"x": "NaN"} and found["datetime"]
    assert marked.getvalue().startswith('l{"datetime"')
    with pytest.raises(ValueError):
        logger.set_level("loud")


def test_logger_with_formatters_of_the_standard_library():
    import logging

    logger, out = nuclio_sdk.Logger(logging.INFO), io.StringIO()
    logger.set_handler("a", out, logging.Formatter("%(levelname)s %(name)s %(message)s"))
    logger.info("x")
    assert out.getvalue() == "INFO nuclio_sdk x\n"


def test_encoder():
    encode = nuclio_sdk.json_encoder.Encoder().encode
    assert encode({"a": float("-inf"), "b": {1}}) == '{"a": "-Infinity", "b": "{1}"}'
    assert json.dumps({1}.__class__, cls=nuclio_sdk.json_encoder.Encoder) == "\"<class 'set'>\""


def test_qualified_offset():
    event = nuclio_sdk.Event(topic="t", shard_id=2, offset=7, path="/p")
    offset = nuclio_sdk.QualifiedOffset.from_event(event)
    assert (offset.topic, offset.partition, offset.offset) == ("t", 2, 7)
    event.topic = ""
    assert nuclio_sdk.QualifiedOffset.from_event(event).topic == "/p"
    assert offset.compile_explicit_ack_message() == {
        "kind": "streamMessageAck", "attributes": {"topic": "t", "partition": 2, "offset": 7}}


def test_context_with_a_logger_for_each_task():
    context = nuclio_sdk.Context(logger="shared", logger_per_async_task=True)

    async def task(name):
        context.logger = name
        await asyncio.sleep(0)
        return context.logger

    async def both():
        return await asyncio.gather(task("a"), task("b"))

    assert asyncio.run(both()) == ["a", "b"] and context.logger == "shared"
    assert nuclio_sdk.Context().logger is not None
    assert nuclio_sdk.Context().platform.kind == "test"


def test_explicit_ack_is_a_coroutine():
    seen = []

    async def note(offset):
        seen.append(offset.offset)

    platform = nuclio_sdk.Platform("local", on_explicit_ack=note)
    asyncio.run(platform.explicit_ack(nuclio_sdk.QualifiedOffset("t", 1, 2)))
    asyncio.run(nuclio_sdk.Platform("local").explicit_ack(None))
    assert seen == [2]


def test_nuclio_mock_platform(capsys):
    platform = nuclio_sdk.test.Platform()
    assert platform.call_handler(handler, nuclio_sdk.Event(body=b"Ada", size=3)) == "Hello, Ada"
    assert "called" in capsys.readouterr().out

    def caller(context, event):
        return context.platform.call_function("other", event)

    platform.call_function_mock.return_value = "answer"
    event = nuclio_sdk.Event(body="x")
    assert platform.call_handler(caller, event) == "answer"
    assert platform.get_call_function_call_args(0)[:2] == ("other", event)
    assert platform.call_handler_with_context_mutation(
        lambda context, event: context.extra, event,
        lambda context: setattr(context, "extra", 5) or context) == 5


def test_testing_call():
    context = testing.make_context(init=init_context)
    reply = testing.call(handler, context=context, body="Ada")
    assert (reply.status_code, reply.content_type, reply.text) == (200, "text/plain", "Hello, Ada")
    assert reply.logs == [("info", "called", {"size": 3})]
    reply = testing.call(lambda c, e: (201, {"got": e.body}), body={"a": 1})
    assert reply.status_code == 201 and reply.json() == {"got": {"a": 1}}
    reply = testing.call(lambda c, e: c.Response({"X": 5}, "b", status_code="1"))
    assert reply.status_code == 500 and "Result.status_code" in reply.text
    with pytest.raises(ZeroDivisionError):
        testing.call(lambda c, e: 1 / 0)


def test_testing_asynchronous_handlers_and_streams():
    async def slow(context, event):
        await asyncio.sleep(0)
        return event.method

    async def stream(context, event):
        yield "a"
        await asyncio.sleep(0)
        yield b"b"

    async def inner(context, event):
        return stream(context, event)

    async def response(context, event):
        return stator.Response(body=stream(context, event), content_type="x/y")

    assert testing.call(slow).text == "GET"
    assert testing.call(stream).chunks == testing.call(inner).chunks == [b"a", b"b"]
    assert testing.call(response).content_type == "x/y"
    assert testing.call(lambda c, e: (str(i) for i in range(3))).body == b"012"


def test_testing_call_function():
    platform = testing.FakePlatform({"up": lambda c, e: {"b": e.body}, "down": OSError("down"),
                                     "text": "t"})
    context = testing.make_context(platform=platform)
    answer = context.platform.call_function("up", testing.make_event("x", path="/p"))
    assert answer.body == {"b": "b'x'"} and answer.status_code == 200
    assert platform.calls[0][1].path == "/p"
    assert context.platform.call_function("text", testing.make_event()).body == b"t"
    with pytest.raises(OSError, match="down"):
        context.platform.call_function("down", testing.make_event())
    with pytest.raises(ConnectionError, match="nobody"):
        context.platform.call_function("nobody", testing.make_event())
    asyncio.run(platform.explicit_ack(1))
    assert platform.acks == [1]


def test_testing_batch():
    def batch(context, events):
        return [stator.Response(body=event.body, event_id=event.id) for event in events
                if event.body != b"no"]

    replies = testing.call_batch(batch, [testing.make_event(text) for text in ("a", "no", "c")])
    assert [reply.status_code for reply in replies] == [200, 500, 200]


def test_testing_outcomes():
    def handler(context, event):
        assert (event.key, event.is_tombstone) == (b"k", False)
        if event.attempt > 1:
            return stator.Retry(1.5, "busy")
        raise stator.Reject("bad")

    with pytest.raises(stator.Reject, match="bad"):
        testing.call(handler, key=b"k")
    with pytest.raises(stator.Retry) as raised:
        testing.call(handler, key=b"k", attempt=2)
    assert (raised.value.delay, raised.value.reason) == (1.5, "busy")
    for delay in (-1, float("nan"), float("inf"), 1e9):
        with pytest.raises(ValueError, match="expected"):
            stator.Retry(delay)

    def batch(context, events):
        return [stator.Retry(1, event_id=events[0].id), stator.Reject("no", event_id=events[1].id)]

    replies = testing.call_batch(batch, [testing.make_event(), testing.make_event()])
    assert [(one.status_code, one.body) for one in replies] == [(503, b""), (400, b"no")]


def test_testing_emit():
    def publish(context, event):
        context.emit("orders", event.body, key="k", headers={"h": "1"}, topic="t")
        context.emit("orders", {"n": 1})
        context.emit("orders", None, key=b"gone", event=event)
        return "done"

    reply = testing.call(publish, body=b"x")
    one, two, three = reply.emitted
    assert (one.output, one.value, one.key, one.topic) == ("orders", b"x", b"k", "t")
    assert one.headers == [(b"h", b"1")] and one.event is None
    assert two.json() == {"n": 1} and two.key is None and two.headers == []
    assert three.value is None and three.event is not None
    context = testing.make_context(outputs=["orders"])
    testing.call(publish, context=context)
    assert len(context.emitted) == 3
    with pytest.raises(stator.EmitError, match="no 'other'; there are: orders"):
        context.emit("other", b"x")
    with pytest.raises(TypeError, match="key: text or bytes expected"):
        context.emit("orders", b"x", key=1)
    with pytest.raises(stator.EmitError, match="without a name"):
        context.emit("orders", b"x", headers={"": "x"})
    with pytest.raises(stator.EmitError, match="nothing can be emitted here"):
        stator.Context().emit("orders", b"x")


def test_testing_event():
    event = testing.make_event({"a": 1}, path="/x", headers={"X": "1"}, shard_id=4)
    assert event.body == {"a": 1} and event.raw_body == b'{"a": 1}' and event.method == "POST"
    assert event.content_type == event.headers["Content-Type"] == "application/json"
    assert event.shard_id == 4 and len(event.id) == 36 and event.header_list[0] == ("X", "1")


def test_sources_are_for_old_pythons_too():
    """CPython 3.10 is the oldest that may run a worker."""
    for file in LIBRARY.rglob("*.py"):
        ast.parse(file.read_text(), feature_version=(3, 10))
        assert max(map(len, file.read_text().splitlines()), default=0) <= 100, file


def test_worker_by_hand_says_what_it_is():
    done = subprocess.run([sys.executable, "-m", "stator._worker"], capture_output=True, text=True,
                          env={"PYTHONPATH": str(LIBRARY)}, check=False, timeout=60)
    assert done.returncode == 2 and "stator run" in done.stderr
