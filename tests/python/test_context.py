"""Context, logger and platform as a handler has them in a worker."""

import http.server
import json
import threading

import pytest

HANDLER = '''
import json, math
import nuclio_sdk
class Logged:
    def __log__(self):
        return {"x": 1}
class Bad:
    def __repr__(self):
        raise RuntimeError
def init_context(context):
    context.user_data.model = "loaded"
    context.logger.info("init")
def handler(context, event):
    log = context.logger
    case = event.path[1:]
    if case == "context":
        assert context.Response is nuclio_sdk.Response and isinstance(context, nuclio_sdk.Context)
        assert isinstance(event, nuclio_sdk.Event)
        return json.dumps([context.worker_id, context.trigger.kind, context.trigger.name,
                           context.trigger_name, context.platform.kind, context.platform.namespace,
                           context.user_data.model])
    if case == "levels":
        log.debug("d %d", 1); log.info("i"); log.warn("w"); log.error("e %s %s", "x", "y")
        log.debug_with("dw", a=1); log.info_with("iw %s", 2, b=2); log.warn_with("ww", c="é")
        log.error_with("ew", d=[1, {"x": None}])
    if case == "values":
        loop = []
        loop.append(loop)
        log.info_with("v", nan=math.nan, inf=[math.inf, -math.inf], logged=Logged(), set={1},
                      bad=Bad(), loop=loop, keys={(1, 2): 3}, bytes=b"x", half="\\ud800")
    if case == "odd":
        log.info("%d", "no number"); log.info(5); log.info(Bad()); log.info("a", 1)
        log.info("100%"); log.info("%(a)s", {"a": 1})
    if case == "level":
        log.set_level("warn"); log.info("hidden"); log.warn("seen"); log.set_level("debug")
    if case == "bind":
        log.bind(tenant="t"); log.info("bound")
    if case == "huge":
        log.info_with("m" * 2_000_000, v="v" * 2_000_000)
    if case == "thread":
        import threading
        t = threading.Thread(target=log.info, args=("from a thread",)); t.start(); t.join()
    return "x"
'''


def test_context(peer):
    one = peer(HANDLER, worker=3, trigger=("cron", "tick"), platform="kube", namespace="ns")
    assert json.loads(one.call(path="/context").text) == [
        "3", "cron", "tick", "tick", "kube", "ns", "loaded"]
    (log,) = one.logs
    assert (log.seq, log.level, log.message) == (0, "info", "init")
    assert json.loads(log.variables) == {"worker_id": "3"}


def test_log_levels_and_variables(peer):
    one = peer(HANDLER)
    answer = one.call(path="/levels")
    assert answer.flags == 2
    found = [(log.level, log.message, json.loads(log.variables)) for log in one.logs_of(answer.seq)]
    assert found == [(level, message, {**more, "worker_id": "0"}) for level, message, more in [
        ("debug", "d 1", {}), ("info", "i", {}), ("warn", "w", {}), ("error", "e x y", {}),
        ("debug", "dw", {"a": 1}), ("info", "iw 2", {"b": 2}), ("warn", "ww", {"c": "é"}),
        ("error", "ew", {"d": [1, {"x": None}]})]]
    assert "é" in one.logs_of(answer.seq)[6].variables
    assert one.call(path="/nothing").flags == 0


def test_log_values_never_raise(peer):
    one = peer(HANDLER)
    answer = one.call(path="/values")
    assert answer.text == "x"
    (log,) = one.logs_of(answer.seq)
    found = json.loads(log.variables)
    assert found["nan"] == "NaN" and found["inf"] == ["Infinity", "-Infinity"]
    assert found["logged"] == {"x": 1} and found["set"] == "{1}" and found["bytes"] == "b'x'"
    for name in ("bad", "loop", "keys"):
        assert found[name].startswith("Unable to serialize object")
    assert found["half"] == "\ufffd"


def test_log_messages_never_raise(peer):
    one = peer(HANDLER)
    seq = one.send(path="/odd")
    assert one.answer(seq).text == "x"
    assert [log.message for log in one.logs_of(seq)] == [
        "%d ('no number',)", "5", "a log message that cannot be written: RuntimeError", "a (1,)",
        "100%", "1"]


def test_log_bind_and_set_level(peer):
    one = peer(HANDLER)
    seq = one.send(path="/level")
    assert one.answer(seq).text == "x"
    assert [log.message for log in one.logs_of(seq)] == ["seen"]
    seq = one.call(path="/bind").seq
    assert json.loads(one.logs_of(seq)[0].variables) == {"worker_id": "0", "tenant": "t"}


def test_log_level_of_the_function_and_of_a_client(peer):
    one = peer(HANDLER, log_level=2)
    answer = one.call(path="/levels")
    assert [log.level for log in one.logs_of(answer.seq)] == ["warn", "error"] * 2
    answer = one.call(path="/levels", log_level=1)
    assert len(one.logs_of(answer.seq)) == 6
    answer = one.call(path="/levels", log_level=3)
    assert len(one.logs_of(answer.seq)) == 4


def test_huge_log_messages_are_cut(peer):
    one = peer(HANDLER)
    answer = one.call(path="/huge")
    (log,) = one.logs_of(answer.seq)
    assert len(log.message) < 300_000 and log.message.endswith("m ...")
    assert "left out" in json.loads(log.variables)["variables"]


def test_log_of_a_thread(peer):
    one = peer(HANDLER)
    answer = one.call(path="/thread")
    assert one.logs_of(answer.seq)[0].message == "from a thread"


class Function(http.server.BaseHTTPRequestHandler):
    """Another function."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        made = json.dumps({"got": body.decode()}).encode()
        self.send_response(203)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Answer", "1")
        self.send_header("Content-Length", str(len(made)))
        self.end_headers()
        self.wfile.write(made)

    def log_message(self, *_):
        pass


@pytest.fixture
def function():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Function) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


CALLER = '''
import http.client, json, nuclio_sdk
asked = []
def provider(address, timeout=None):
    asked.append((address, timeout))
    return http.client.HTTPConnection("127.0.0.1", {port}, timeout=5)
def init_context(context):
    context.platform._connection_provider = provider
EVENT = nuclio_sdk.Event(body={{"a": 1}}, method="POST", path="/p?q=1", headers={{"X-Mine": "m"}})
def handler(context, event):
    answer = context.platform.call_function("other", EVENT, timeout=3)
    context.platform.call_function("other", nuclio_sdk.Event(body="t", content_type="a/b",
        method="POST", headers={{"x-nuclio-target": "t"}}), service_name_override="svc")
    assert EVENT.headers == {{"X-Mine": "m"}}
    return json.dumps([answer.body, answer.headers, answer.status_code, asked])
async def asynchronous(context, event):
    answer = await context.platform.call_function_async("other", EVENT, timeout=3)
    await context.platform.explicit_ack(nuclio_sdk.QualifiedOffset.from_event(event))
    return json.dumps([answer.body, answer.headers, answer.status_code, asked])
'''


@pytest.mark.parametrize("handler", ["handler", "asynchronous"])
@pytest.mark.parametrize("kind, host", [("local", "nuclio-team-other"), ("kube", "nuclio-other")])
def test_call_function(peer, function, handler, kind, host):
    one = peer(CALLER.format(port=function.server_address[1]), f"h:{handler}", platform=kind)
    answer = one.call()
    assert answer.status == 200, answer.text
    body, headers, status, asked = json.loads(answer.text)
    assert body == {"got": '{"a": 1}'} and status == 203
    assert headers["x-answer"] == "1" and headers["content-type"] == "application/json"
    assert asked[0] == [f"{host}:8080", 3]
    method, path, sent, raw = function.seen[0]
    assert (method, path, raw) == ("POST", "/p?q=1", b'{"a": 1}')
    assert sent["X-Nuclio-Target"] == "other" and sent["X-Mine"] == "m"
    assert sent["Content-Type"] == "application/json"
    if handler == "handler":
        assert asked[1][0] == "svc:8080"
        sent = function.seen[1][2]
        assert sent["Content-Type"] == "a/b" and sent["x-nuclio-target"] == "t"
        assert "X-Nuclio-Target" not in sent
