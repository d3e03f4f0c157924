"""Outputs: what handlers emit arrives, and their events wait for it. Kind http, against a server of
the test."""

import json
import queue
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from http_raw import build_request
from stator_proc import Stator, patience, wait_until

EMITS = "stator_emits_total"


class Sink(ThreadingHTTPServer):
    """Keeps what it gets in `got`: (method, path, headers, body). Answers by `answers`, a status
    each, -1: closes the connection; 204 when there is none. Waits for `gate` before it does."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.got: queue.Queue[tuple[str, str, dict[str, str], bytes]] = queue.Queue()
        self.answers: queue.Queue[int] = queue.Queue()
        self.gate = threading.Event()
        self.gate.set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/in"

    def take(self) -> tuple[str, str, dict[str, str], bytes]:
        """The next request."""
        return self.got.get(timeout=patience(20))


class Receiver(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Sink

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.got.put((self.command, self.path, headers, body))
        self.server.gate.wait(patience(60))
        try:
            status = self.server.answers.get_nowait()
        except queue.Empty:
            status = 204
        if status == -1:
            self.close_connection = True
            return
        try:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
        except OSError:
            self.close_connection = True  # the processor has given up

    do_POST = do_PUT = handle_any

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests look at `got`."""


@pytest.fixture(name="sink")
def sink_fixture() -> Iterator[Sink]:
    server = Sink()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.gate.set()
        server.shutdown()
        server.server_close()


def outputs(sink: Sink, **options: Any) -> dict[str, Any]:
    """spec.stator with one output, "sink"."""
    fast = {"backoff": "1ms", "backoffCap": "2ms", "timeout": f"{patience(20):g}s"}
    return {"outputs": {"sink": {"kind": "http", "url": sink.url} | fast | options}}


WAYS = {"inline": ("emit", {}), "thread": ("emit_blocking", {}),
        "process": ("emit", {"isolation": "process"})}


@pytest.fixture(name="native", params=WAYS)
def native_fixture(request: pytest.FixtureRequest,
                   start: Callable[..., Stator]) -> Callable[..., Stator]:
    """native(own, ...) as start(): the handler emit.c in each way of running."""
    handler, more = WAYS[request.param]

    def start_native(own: dict[str, Any], **options: Any) -> Stator:
        return start(handler, own=own | more, **options)

    return start_native


def test_answer_waits(native, sink):
    """Until the output has confirmed the message."""
    s = native(outputs(sink))
    sink.gate.clear()
    with s.connect() as c:
        c.send(build_request("POST", "/?sink,k,body", body=b"the body"))
        method, path, headers, body = sink.take()
        assert (method, path, body) == ("POST", "/in", b"the body")
        assert headers["x-stator-key"] == "k"
        assert headers["from"] == "handler"
        assert headers["content-type"] == "application/octet-stream"
        assert c.is_quiet(0.1)
        sink.gate.set()
        answer = c.read_response()
    assert (answer.status, answer.body) == (200, b"0 ")
    s.wait_metric(1, EMITS, output="sink", result="success")


def test_several(native, sink):
    """All of them; a key may be empty or none, and so may a value."""
    s = native(outputs(sink, contentType="text/plain", method="PUT",
                       headers={"Authorization": "Bearer x"}))
    answer = s.request("GET", "/?sink,-,none&sink,,empty&sink,k,-&sink,k,")
    assert (answer.status, answer.body) == (200, b"0 0 0 0 ")
    got = [sink.take() for _ in range(4)]
    assert all(one[0] == "PUT" for one in got)
    assert all(one[2]["authorization"] == "Bearer x" for one in got)
    by_body = {one[3]: one[2] for one in got if one[3]}
    assert "x-stator-key" not in by_body[b"none"]
    assert by_body[b"empty"]["x-stator-key"] == ""
    tombs = [one[2].get("x-stator-no-value") for one in got if not one[3]]
    assert sorted(tombs, key=str) == [None, "true"]
    assert {one[2]["content-type"] for one in got} == {"text/plain"}


def test_refused(native, sink):
    """The handler is told, and its event is not held."""
    s = native(outputs(sink))
    answer = s.request("GET", "/?other,k,v")
    assert (answer.status, answer.body) == (200, b"-3 ")
    s.wait_log("spec.stator.outputs has none of that name")


def test_failure(native, sink):
    """An answer that is none fails the event at once, with the reason."""
    s = native(outputs(sink))
    sink.answers.put(404)
    answer = s.request("GET", "/?sink,k,v")
    assert answer.status == 500
    assert answer.body == b"emit to sink failed: the server answered 404 (attempt 1)"
    assert s.request("GET", "/?sink,k,v").status == 200
    s.wait_metric(1, EMITS, output="sink", result="failure")
    s.wait_metric(1, EMITS, output="sink", result="success")


def test_one_of_several_fails(native, sink):
    s = native(outputs(sink, attempts=1))
    for status in (204, 503, 204):
        sink.answers.put(status)
    answer = s.request("GET", "/?sink,a,v&sink,b,v&sink,c,v")
    assert answer.status == 500
    assert answer.body == b"emit to sink failed: the server answered 503 (attempt 1)"
    s.wait_metric(2, EMITS, output="sink", result="success")


def test_tried_again(native, sink):
    """503s and connections that break are for trying again; too many of them are a failure."""
    s = native(outputs(sink, attempts=3))
    for status in (503, -1, 204):
        sink.answers.put(status)
    assert s.request("GET", "/?sink,k,v").status == 200
    for _ in range(3):
        sink.answers.put(503)
    answer = s.request("GET", "/?sink,k,v")
    assert (answer.status, b"(attempt 3)" in answer.body) == (500, True)
    assert s.request("GET", "/?sink,k,v").status == 200  # it is back


def test_hangs(start, sink):
    """Nothing waits without end."""
    s = start("emit", own=outputs(sink, attempts=1, timeout="200ms"))
    sink.gate.clear()
    answer = s.request("GET", "/?sink,k,v")
    assert answer.status == 500
    assert answer.body.startswith(b"emit to sink failed: ")
    sink.gate.set()


def test_bounds(start, sink):
    """More than maxRequests, or maxBytes, is refused at once; room comes back."""
    s = start("emit", own=outputs(sink, maxRequests=2, maxBytes=4096))
    answer = s.request("POST", "/?sink,k,body", body=b"x" * 5000)
    assert (answer.status, answer.body) == (200, b"-4 ")
    sink.gate.clear()
    with s.connect() as a, s.connect() as b:
        for c in (a, b):
            c.send(build_request("GET", "/?sink,k,v"))
            sink.take()
        answer = s.request("GET", "/?sink,k,v")
        assert (answer.status, answer.body) == (200, b"-4 ")
        sink.gate.set()
        assert a.read_response().status == b.read_response().status == 200
    assert s.request("GET", "/?sink,k,v").body == b"0 "
    s.wait_metric(2, EMITS, output="sink", result="failure")


def test_end_with_something_under_way(native, sink):
    """It is given up when workerTerminationTimeout is over."""
    s = native(outputs(sink), trigger={"workerTerminationTimeout": "500ms"})
    sink.gate.clear()
    with s.connect() as c:
        c.send(build_request("GET", "/?sink,k,v"))
        sink.take()
        s.stop()


def test_drain_waits(native, sink):
    """What is under way when the processor ends is still confirmed."""
    s = native(outputs(sink))
    sink.gate.clear()
    with s.connect() as c:
        c.send(build_request("GET", "/?sink,k,v"))
        sink.take()
        s.signal()
        s.wait_log("Draining")
        sink.gate.set()
        assert c.read_response().status == 200
    s.wait()


def test_timeout(native, sink):
    """eventTimeout includes the waiting; the worker is not to blame and goes on."""
    s = native(outputs(sink), spec={"eventTimeout": "300ms"})
    sink.gate.clear()
    assert s.request("GET", "/?sink,k,v").status == 408
    sink.gate.set()
    wait_until(lambda: s.request("GET", "/?sink,k,v").status == 200, 20)


# Python

CODE = """
    import json

    def handler(context, event):
        how = event.path[1:]
        try:
            if how == "json":
                context.emit("sink", {"a": [1, None]}, key="k\\u00e4".encode().hex(),
                             headers={"X-One": "1", b"x-two": b"2"})
            elif how == "text":
                context.emit("sink", "t\\u00e4xt")
                context.emit("sink", bytearray(b"array"), headers=[("Content-Type", "a/b")])
                context.emit("sink", None, key=b"k")
            elif how == "other":
                context.emit("other", b"x")
            elif how == "type":
                context.emit("sink", b"x", key=1.5)
            elif how == "headers":
                context.emit("sink", b"x", headers=[("n", "v")] * 257)
            elif how == "key":
                context.emit("sink", b"x", key="k" * 65537)
            elif how == "topic":
                context.emit("sink", b"x", topic="t")
            elif how == "large":
                context.emit("sink", b"x" * 1000000)
            elif how == "thread":
                import threading
                caught = []
                def run():
                    try:
                        context.emit("sink", b"x")
                    except Exception as exc:
                        caught.append(exc)
                thread = threading.Thread(target=run)
                thread.start()
                thread.join()
                raise caught[0]
            elif how == "raise":
                context.emit("sink", b"before")
                raise ValueError("after")
            elif how == "stream":
                def pieces():
                    yield "one"
                    context.emit("sink", b"between")
                    yield "two"
                return pieces()
        except Exception as exc:
            if how == "raise":
                raise
            return f"{type(exc).__module__}.{type(exc).__name__}: {exc}"
        return "fine"
"""


def test_python_values(python, sink):
    s = python(CODE, own=outputs(sink))
    assert s.request("GET", "/json").body == b"fine"
    _, _, headers, body = sink.take()
    assert json.loads(body) == {"a": [1, None]}
    assert (headers["x-one"], headers["x-two"]) == ("1", "2")
    assert bytes.fromhex(headers["x-stator-key"]).decode() == "k\u00e4"
    assert s.request("GET", "/text").body == b"fine"
    got = [sink.take() for _ in range(3)]
    assert {one[3].decode() for one in got} == {"t\u00e4xt", "array", ""}
    assert {one[2]["content-type"] for one in got} == {"a/b", "application/octet-stream"}
    s.wait_metric(4, EMITS, output="sink", result="success")


@pytest.mark.parametrize("how, text", [
    ("other", "stator._emit.EmitError: spec.stator.outputs has no 'other'; there are: sink"),
    ("type", "builtins.TypeError: key: text or bytes expected, not float"),
    ("headers", "stator._emit.EmitError: 257 headers with 514 bytes, at most 256 with 65536 "
                "expected"),
    ("key", "stator._emit.EmitError: a key of 65537 bytes, at most 65536 expected"),
    ("thread", "stator._emit.EmitError: emit() is for the thread that runs the handler, and only "
               "there"),
])
def test_python_is_told(python, sink, how, text):
    s = python(CODE, own=outputs(sink))
    assert s.request("GET", f"/{how}").body.decode() == text
    assert sink.got.empty()


def test_python_fails_later(python, sink):
    """What the worker can't know fails the event."""
    s = python(CODE, own=outputs(sink))
    answer = s.request("GET", "/topic")
    assert (answer.status, answer.body) == (
        500, b"emit to sink failed: an output of kind http has no topics")


def test_python_large(python, sink):
    s = python(CODE, own=outputs(sink))
    for _ in range(3):
        assert s.request("GET", "/large").body == b"fine"
        assert len(sink.take()[3]) == 1000000


def test_python_raises(python, sink):
    """What was emitted before the exception has left; the answer is the exception's."""
    s = python(CODE, own=outputs(sink))
    answer = s.request("GET", "/raise")
    assert (answer.status, b"after" in answer.body) == (500, True)
    assert sink.take()[3] == b"before"


def test_python_streams(python, sink):
    s = python(CODE, own=outputs(sink))
    answer = s.request("GET", "/stream")
    assert (answer.status, answer.body) == (200, b"onetwo")
    assert sink.take()[3] == b"between"


def test_python_waits(python, sink):
    s = python(CODE, own=outputs(sink))
    sink.gate.clear()
    with s.connect() as c:
        c.send(build_request("GET", "/json"))
        sink.take()
        assert c.is_quiet(0.1)
        sink.gate.set()
        assert c.read_response().body == b"fine"


def test_python_coroutines(python, sink):
    """Each message belongs to the event of the task that emits; later there is none."""
    s = python("""
        import asyncio

        late = []

        async def later(context):
            while not late or late[-1] != "go":
                await asyncio.sleep(0.01)
            try:
                context.emit("sink", b"too late")
            except Exception as exc:
                late.append(str(exc))

        async def handler(context, event):
            if event.path == "/late":
                asyncio.get_running_loop().create_task(later(context))
                return "ok"
            if event.path == "/what":
                if "go" not in late:
                    late.append("go")
                return late[-1]
            context.emit("sink", event.body)
            await asyncio.sleep(0.001)
            context.emit("sink", event.body)
            return event.body
        """, own=outputs(sink), trigger={"maxConcurrency": 8})
    connections = [s.connect() for _ in range(8)]
    for n, c in enumerate(connections):
        c.send(build_request("POST", "/", body=b"%d" % n))
    for n, c in enumerate(connections):
        assert c.read_response().body == b"%d" % n
        c.close()
    got = sorted(sink.take()[3] for _ in range(16))
    assert got == sorted([b"%d" % n for n in range(8)] * 2)
    assert s.request("GET", "/late").body == b"ok"
    wait_until(lambda: s.request("GET", "/what").body == b"the event was answered already", 20)
    assert sink.got.empty()


def test_python_batches(python, sink):
    """A message of a batch names its event."""
    s = python("""
        def handler(context, events):
            replies = []
            for event in events:
                text = "fine"
                try:
                    if event.path == "/which":
                        context.emit("sink", b"x")
                    else:
                        context.emit("sink", event.body, event=event)
                except Exception as exc:
                    text = str(exc)
                replies.append(context.Response(body=text, headers={}))
                replies[-1].event_id = event.id
            return replies
        """, own=outputs(sink, attempts=1),
               trigger={"batch": {"mode": "enable", "batchSize": 2, "timeout": "50ms"}})
    assert s.request("GET", "/which").body == b"in a batch say which event: emit(..., event=event)"
    for status in (204, 503):
        sink.answers.put(status)
    with s.connect() as a, s.connect() as b:
        for c in (a, b):
            c.send(build_request("POST", "/", body=b"x"))
        assert sorted([a.read_response().status, b.read_response().status]) == [200, 500]


@pytest.mark.parametrize("own", [{}, {"isolation": "process"}])
@pytest.mark.parametrize("handler", ["batch", "batch_inline"])
def test_native_batches(start, sink, handler, own):
    """Each event of a batch waits for its own message."""
    s = start(handler, workers=1, own=outputs(sink, attempts=1) | own,
              trigger={"batch": {"mode": "enable", "batchSize": 3, "timeout": "60s"}})
    for status in (204, 503):
        sink.answers.put(status)
    with s.connect() as a, s.connect() as b, s.connect() as c:
        for connection, body in ((a, b"emit"), (b, b"emit"), (c, b"x")):
            connection.send(build_request("POST", "/", body=body))
        assert c.read_response().status == 200
        assert sorted([a.read_response().status, b.read_response().status]) == [200, 500]


def test_python_outside_of_events(python, sink):
    s = python("""
        caught = []

        def init_context(context):
            try:
                context.emit("sink", b"x")
            except Exception as exc:
                caught.append(str(exc))

        def handler(context, event):
            return caught[0]
        """, own=outputs(sink))
    assert s.request("GET", "/").body == b"nothing can be emitted outside an event"


def test_status(start, sink):
    """/status shows it without secrets."""
    s = start("emit", own=outputs(sink, headers={"Authorization": "secret"}), admin=True)
    shown = s.status()["outputs"]["sink"]
    assert shown["kind"] == "http"
    assert shown["headers"] == {"Authorization": "[redacted]"}
    assert shown["emits"] == {"success": 0, "failure": 0}


# Kafka, as far as it needs no broker

AWAY = {"kind": "kafka", "brokers": ["127.0.0.1:1"], "topic": "t"}


def test_kafka_away(native):
    """Without a broker the processor starts and serves; events that emit fail in time."""
    s = native({"outputs": {"away": AWAY | {"deliveryTimeout": "500ms"}}})
    answer = s.request("GET", "/?away,k,v")
    assert answer.status == 500
    assert answer.body.startswith(b"emit to away failed: Local: Message timed out")
    assert s.request("GET", "/").status == 200
    s.wait_log("Connect to ipv4#127.0.0.1:1 failed")
    s.wait_metric(1, EMITS, output="away", result="failure")


def test_kafka_bounds(start):
    """What is under way is bounded; the end does not wait for it for ever."""
    away = AWAY | {"deliveryTimeout": "1h", "maxMessages": 2}
    s = start("emit", own={"loops": 1, "outputs": {"away": away}},
              trigger={"workerTerminationTimeout": "500ms"})
    with s.connect() as a, s.connect() as b:
        for n, c in enumerate((a, b)):
            c.send(build_request("GET", "/?away,k,v"))
            s.wait_metric(n + 1, "stator_events_in_flight")
        answer = s.request("GET", "/?away,k,v")  # its loop has seen the others before
        assert (answer.status, answer.body) == (200, b"-4 ")
        s.stop()


def test_kafka_refuses(start):
    """What is wrong with the message itself is told at once."""
    s = start("emit", own={"outputs": {"none": {"kind": "kafka", "brokers": ["127.0.0.1:1"]},
                                       "small": AWAY | {"maxMessageBytes": 1000}}})
    answer = s.request("POST", "/?none,k,v&small,k,body", body=b"x" * 2000)
    assert (answer.status, answer.body) == (200, b"-3 -4 ")
    s.wait_log("neither the message nor the output's configuration has a topic")
