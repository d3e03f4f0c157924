"""prometheusPush: metrics that go to a gateway, a real one over HTTP, by themselves."""

import socket
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import prometheus_text
import pytest
from stator_proc import patience, wait_until

HANDLED = "nuclio_processor_handled_events_total"
PUSHES = "stator_metric_pushes_total"


class Gateway(ThreadingHTTPServer):
    """Notes what is pushed; `answer` is what it says, `gate` is where it waits before."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), GatewayHandler)
        self.pushes = []
        self.answer = (200, b"")
        self.gate = threading.Event()
        self.gate.set()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def samples(self):
        """What the last push says."""
        return prometheus_text.parse(self.pushes[-1][3])


class GatewayHandler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def _take(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.pushes.append((self.command, self.path, self.headers, body.decode()))
        self.server.gate.wait(60)
        status, text = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST = _take

    def log_message(self, *_):
        pass


@pytest.fixture(name="gateway")
def gateway_fixture():
    g = Gateway()
    yield g
    g.gate.set()
    g.shutdown()
    g.server_close()


# A push has the interval's time: where each one must be answered, enough for a busy machine.
LONG = "2s"


def sinks(url, interval="100ms", pull=None, **attributes):
    """metrics of platform.yaml: a gateway, and where `pull` is an address a scrape, too."""
    push = {"kind": "prometheusPush", "url": url, "attributes": {"interval": interval} | attributes}
    both = {"gw": push} | ({"pull": {"kind": "prometheusPull", "url": pull}} if pull else {})
    return {"metrics": {"sinks": both, "functions": list(both)}}


def closed_port():
    """A URL where nobody listens: the port is bound, and stays so while the socket lives."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    return s, f"http://127.0.0.1:{s.getsockname()[1]}"


def test_pushes_all_the_time(start, gateway):
    s = start("hello", platform=sinks(gateway.url, LONG))
    wait_until(lambda: len(gateway.pushes) >= 3, 30, "three pushes")
    method, path, headers, _ = gateway.pushes[0]
    assert method == "PUT"
    assert path == "/metrics/job/test/instance/nuclio-test"
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["User-Agent"] == "stator"
    assert s.request("GET").status == 200
    wait_until(lambda: gateway.samples().sum(HANDLED, result="success") == 1, 30, "the event")
    assert gateway.samples().sum(PUSHES, sink="gw", result="success") >= 2
    assert gateway.samples().sum(PUSHES, sink="gw", result="failure") == 0
    assert not s.log("could not be pushed")


@pytest.mark.parametrize("job,instance,path", [
    ("j", "i", "/job/j/instance/i"),
    ("{{ .Namespace }}", "{{.Name}}-0", "/job/nuclio/instance/test-0"),
    ("a b", "ü:1?#%", "/job/a%20b/instance/%C3%BC%3A1%3F%23%25"),
    ("a/b", "var/tmp", "/job@base64/YS9i/instance@base64/dmFyL3RtcA"),
])
def test_group(start, gateway, job, instance, path):
    """Any text makes a group, as the gateway's API has it; the label is the same."""
    start("hello", platform=sinks(gateway.url + "/prefix//", jobName=job, instanceName=instance))
    wait_until(lambda: gateway.pushes, what="a push")
    assert gateway.pushes[0][1] == "/prefix/metrics" + path
    name = instance.replace("{{.Name}}", "test")
    assert gateway.samples().find(HANDLED, instance=name, result="success")


def test_last_push_has_everything(start, gateway):
    """The interval never comes: what there is is from the end."""
    s = start("hello", platform=sinks(gateway.url, "1h"))
    for _ in range(7):
        s.request("GET")
    assert not gateway.pushes
    s.stop()
    assert len(gateway.pushes) == 1
    assert gateway.samples().sum(HANDLED, result="success") == 7


def test_nobody_listens(start):
    """One warning, without the password; the processor goes on and ends in time."""
    held, url = closed_port()
    with held, tempfile.TemporaryDirectory(prefix="st-") as folder:
        s = start("hello", platform=sinks(url.replace("//", "//me:secret@"),
                                          pull=f"unix:{folder}/metrics"))
        s.scrape = f"{folder}/metrics"
        wait_until(lambda: s.metrics().sum(PUSHES, result="failure") >= 5, what="failures")
        assert s.request("GET").status == 200
        assert s.ready() == 200
        warnings = s.log("could not be pushed")
        assert len(warnings) == 1
        assert warnings[0]["url"] == url
        assert warnings[0]["status"] == 0
        assert warnings[0]["error"]
        assert s.stop() < patience(5)
        assert "secret" not in s.stdout() + s.stderr()


def test_gateway_refuses_and_recovers(start, gateway):
    gateway.answer = (400, b"pushed metrics are invalid\nmore")
    s = start("hello", platform=sinks(gateway.url, LONG))
    warning = s.wait_log("could not be pushed", 30)
    assert (warning["status"], warning["error"]) == (400, "pushed metrics are invalid")
    wait_until(lambda: len(gateway.pushes) >= 3, 30, "more pushes")
    gateway.answer = (202, b"")
    assert s.wait_log("pushed again", 30)["failures"] >= 2
    assert len(s.log("could not be pushed")) == 1


def test_gateway_hangs(start, gateway):
    """A push has the interval's time, the last one 2 s; nothing else waits for it."""
    gateway.gate.clear()
    s = start("hello", platform=sinks(gateway.url))
    assert "timed out" in s.wait_log("could not be pushed")["error"]
    assert s.request("GET").status == 200
    took = s.stop(30)
    assert 1.9 < took < patience(2) + 5


def test_second_signal_ends_the_last_push(start, gateway):
    gateway.gate.clear()
    s = start("hello", platform=sinks(gateway.url, "1h"))
    began = time.monotonic()
    s.signal()
    wait_until(lambda: gateway.pushes, what="the last push")
    time.sleep(max(0, 1.05 - (time.monotonic() - began)))
    s.signal()
    assert s.wait() == 0


def test_sinks_that_are_off(start, gateway):
    platform = sinks(gateway.url)
    platform["metrics"]["sinks"]["gw"]["enabled"] = False
    s = start("hello", platform=platform)
    platform = sinks(gateway.url)
    platform["metrics"]["functions"] = []
    start("hello", platform=platform)
    time.sleep(0.3)
    s.stop()
    assert not gateway.pushes
