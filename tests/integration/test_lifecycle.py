"""How a processor starts, drains and ends; what it says when it cannot start."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from http_raw import Closed, Connection, build_request
from stator_proc import BINARY, STRAYS, Stator, handler_path, patience, run_cli, wait_until


@contextlib.contextmanager
def taken_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that somebody else listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as s:
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.bind((host, 0))
        s.listen()
        yield s.getsockname()[1]


# Start

@pytest.mark.parametrize("host", ["127.0.0.1", "::", "[::1]", ""])
def test_taken_port_is_one_clear_line(start, host):
    with taken_port(host.strip("[]") or "::") as port:
        listen = f"{host if host != '::' else ''}:{port}"
        s = start("hello", url=listen, ready=False)
        assert s.wait() == 1
        lines = s.stderr().splitlines()
        assert len(lines) == 1, lines
        assert f'listen on "{listen}"' in lines[0] and "in use" in lines[0].lower()


def test_port_of_another_processor_is_taken(start):
    """SO_REUSEPORT among the loops of one must not let a second one in."""
    first = start("hello")
    second = start("hello", url=f"127.0.0.1:{first.port}", ready=False)
    assert second.wait() == 1
    assert f":{first.port}" in second.stderr()
    assert first.get().status == 200


@pytest.mark.parametrize("what", ["healthCheck", "metrics"])
def test_configured_admin_port_that_is_taken_is_fatal(start, what):
    with taken_port() as port:
        address = f"127.0.0.1:{port}"
        platform = {"healthCheck": {"listenAddress": address}} if what == "healthCheck" else {
            "metrics": {"sinks": {"pull": {"kind": "prometheusPull", "url": address}},
                        "functions": ["pull"]}}
        s = start("hello", platform=platform, ready=False)
        assert s.wait() == 1
        lines = s.stderr().splitlines()
        assert len(lines) == 1 and address in lines[0], lines


@contextlib.contextmanager
def bare(*words: str, cwd: str | None = None) -> Iterator[subprocess.Popen]:
    """`stator run WORDS` without a platform file, with its log on a pipe."""
    with subprocess.Popen([str(BINARY), "run", *words], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          cwd=cwd) as p:
        try:
            yield p
        finally:
            p.kill()


def read_until_ready(p: subprocess.Popen) -> str:
    """The log up to the line that says so."""
    text = ""
    for line in p.stdout:
        text += line
        if " Ready " in line or re.search(r"Ready\b", line):
            return text
    raise AssertionError(f"never ready:\n{text}")


def hold(port: int) -> socket.socket:
    """A listener on that port, as soon as whoever has it now lets go."""
    s = socket.socket(socket.AF_INET6)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)

    def try_it() -> bool:
        with contextlib.suppress(OSError):
            s.bind(("::", port))
            s.listen()
            return True
        return False
    wait_until(try_it, 20, f"port {port}")
    return s


def test_default_admin_ports_move_when_they_are_taken(tmp_path):
    """Two functions run on one laptop; the log says where the second one's admin is."""
    config = tmp_path / "function.yaml"
    config.write_text(f"spec: {{runtime: native, handler: '{handler_path('hello')}', triggers: "
                      "{http: {kind: http, url: '127.0.0.1:0'}}}\n", encoding="utf-8")
    with hold(8082), hold(8090), bare(str(tmp_path)) as p:
        text = read_until_ready(p)
        moved = [line for line in text.splitlines() if "default port is taken" in line]
        for what, default, path in (("health", ":8082", "/ready"),
                                    ("metrics", ":8090", "/metrics")):
            line = next(line for line in moved if f'"{what}"' in line)
            assert f'"{default}"' in line
            port = int(re.search(r'"port": ?(\d+)', line)[1])
            with Connection(("127.0.0.1", port), patience(10)) as c:
                assert c.ask("GET", path).status == 200
        p.send_signal(signal.SIGTERM)
        assert p.wait(patience(10)) == 0


def test_platform_admin_can_be_off(start):
    s = start("hello", platform={"healthCheck": {"enabled": False},
                                 "metrics": {"sinks": {"pull": {"kind": "prometheusPull",
                                                                "enabled": False}},
                                             "functions": ["pull"]}}, ready=False)
    s.wait_log("Ready")
    assert s.get().status == 200
    assert not os.path.exists(s.health) and not os.path.exists(s.scrape)


def test_not_ready_before_every_worker_is(start, tmp_path):
    """A start that is cut short ends with 0 as well."""
    source = tmp_path / "slow.c"
    source.write_text("""
#include <stator/handler.h>
#include <unistd.h>
static int init(const struct stator_host_v1 *h, const struct stator_worker_v1 *w, void **u)
{ (void)h; (void)u; if (w->index == 1) sleep(2); return 0; }
static int handle(const struct stator_host_v1 *h, void *u, stator_event *ev)
{ (void)u; return h->reply_text(ev, 200, "ok"); }
STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {.abi = STATOR_ABI,
    .size = sizeof stator_handler_v1, .name = "slow", .init = init, .handle = handle};
""", encoding="utf-8")
    build_handler(source)
    s = start(str(tmp_path / "slow.so"), workers=2, ready=False)
    wait_until(lambda: os.path.exists(s.health))
    answer = s.ask(s.health, "/ready")
    assert answer.status == 503
    assert answer.body == b'{"processor_readiness": "Processor not ready yet"}'
    assert not s.log("Listening")
    s.wait_ready()
    assert s.get().body == b"ok"
    cut_short = start(str(tmp_path / "slow.so"), workers=2, ready=False, env=STRAYS)
    wait_until(lambda: os.path.exists(cut_short.health))
    time.sleep(0.05)
    assert cut_short.stop() < patience(3)


def build_handler(source) -> None:
    """Compiles one .c file to the .so beside it, as the README of hello-c does."""
    include = os.path.join(os.path.dirname(__file__), "../../runtimes/native/include")
    subprocess.run(["cc", "-shared", "-fPIC", "-I", include, "-o", str(source.with_suffix(".so")),
                    str(source)], check=True, stdin=subprocess.DEVNULL)


# End

def is_refused(s: Stator) -> bool:
    """Nobody listens at the trigger's address any more."""
    try:
        s.connect().close()
    except ConnectionRefusedError:
        return True
    return False


TRIES = 5  # of what a busy machine may hold up once, for an end that half a second may not delay


def idle_end(start, handler: str, number: signal.Signals) -> float:
    """How long an idle processor takes to end."""
    s = start(handler, workers=2)
    with s.connect() as c:
        assert c.ask("GET").status == 200  # an idle connection that is kept
        begin = time.monotonic()
        s.signal(number)
        assert s.wait() == 0
        took = time.monotonic() - begin
        assert c.is_closed()
    assert s.stderr() == ""
    with pytest.raises(ConnectionRefusedError):
        s.connect()
    return took


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("handler", ["hello", "echo_blocking"])
def test_idle_processor_ends_at_once(start, handler, number):
    assert any(idle_end(start, handler, number) < patience(0.5) for _ in range(TRIES))


def test_never_used_processor_ends_at_once(start):
    assert any(start("hello", own={"loops": 1}).stop() < patience(0.5) for _ in range(TRIES))


def test_client_that_says_nothing_does_not_hold_up_the_end(start):
    """It gets half a second to say something."""
    s = start("hello")
    with s.connect() as c:
        s.wait_metric(1, "stator_connections")
        assert s.stop() < patience(1.5)
        assert c.is_closed()


def test_running_handler_is_waited_for(start):
    s = start("sleep", workers=2)
    with s.connect() as c, s.connect() as idle:
        assert idle.ask("GET").status == 200
        body = b"%d" % patience(1000)
        c.send(build_request("POST", "/", body))
        s.wait_metric(1, "stator_events_in_flight")
        s.signal()
        assert idle.is_closed()
        wait_until(lambda: s.ready() == 503)
        wait_until(lambda: is_refused(s))
        assert s.metric("stator_events_in_flight") == 1  # all that while the handler ran
        answer = c.read_response()
        assert (answer.body, answer.closes) == (body, True)
        assert c.is_closed()
        answered = time.monotonic()
        assert s.wait() == 0
        assert time.monotonic() - answered < patience(2)


def test_waiting_and_deferred_events_are_answered(start):
    """Those in the queue and those of a handler's own thread."""
    s = start("sleep", workers=1)
    bodies = [b"%d" % patience(1000), *[b"1"] * 4]
    connections = [s.connect() for _ in bodies]
    connections[0].send(build_request("POST", "/", bodies[0]))
    s.wait_metric(1, "stator_workers", state="full")
    for c in connections[1:]:
        c.send(build_request("POST", "/", b"1"))
    s.wait_metric(5, "stator_events_in_flight")
    s.signal()
    for c, body in zip(connections, bodies, strict=True):
        assert c.read_response().body == body
        c.close()
    assert s.wait() == 0
    s = start("defer")
    with s.connect() as c:
        body = b"%d" % patience(1000)
        c.send(build_request("POST", "/", body))
        s.wait_metric(1, "stator_events_in_flight")
        s.signal()
        assert c.read_response().body == body
    assert s.wait() == 0


@pytest.mark.parametrize("handler", ["stream", "stream_inline"])
def test_stream_goes_on_to_its_end(start, handler):
    s = start(handler)
    with s.connect(rcvbuf=8192) as c:
        c.send(build_request("GET", "/?20000"))
        c.read_some(1000)
        s.signal()
        wait_until(lambda: s.ready() == 503)
        assert c.read_until(b"\r\n0\r\n\r\n") > 20000 * 1024 - 1000
        assert c.is_closed()
        begin = time.monotonic()
        assert s.wait() == 0
        assert time.monotonic() - begin < patience(1)


def test_pipeline_is_answered_to_its_end(start):
    """Fast ones behind a slow one were answered before the signal; still all arrive, and the
    connection ends."""
    s = start("sleep", workers=4)
    with s.connect() as c:
        c.send(b"".join(build_request("POST", "/", b"%d" % ms) for ms in (500, 1, 2, 3)))
        s.wait_metric(1, "stator_events_in_flight")
        begin = time.monotonic()
        s.signal()
        assert [c.read_response().body for _ in range(4)] == [b"500", b"1", b"2", b"3"]
        assert c.is_closed()
        assert s.wait() == 0
        assert time.monotonic() - begin < patience(2)


def test_slow_reader_of_a_big_answer_gets_it(start):
    """It was answered before the signal, and is not idle before it has everything."""
    s = start("echo", attributes={"maxRequestBodySize": 16 << 20})
    with s.connect(rcvbuf=8192) as c:
        c.send(build_request("POST", "/", b"x" * (12 << 20)))
        c.read_some(10_000)
        s.signal()
        wait_until(lambda: s.ready() == 503)
        time.sleep(0.1)
        assert len(c.read_to_end()) > (12 << 20) - 10_000
        begin = time.monotonic()
        assert s.wait() == 0
        assert time.monotonic() - begin < patience(1)


def test_upload_that_had_begun_is_served(start):
    s = start("echo", own={"loops": 1})
    with s.connect() as c, s.connect() as idle:
        assert idle.ask("POST", body=b"x").status == 200
        c.send(build_request("POST", headers=[("Content-Length", "10"),
                                              ("Expect", "100-continue")]))
        assert c.read_head().status == 100
        c.send(b"12345")
        s.signal()
        assert idle.is_closed()  # the loop knows
        c.send(b"67890")
        answer = c.read_response()
        assert (answer.body, answer.closes) == (b"1234567890", True)
    assert s.wait() == 0


def test_drain_delay(start):
    """Not ready, but serving; then the end."""
    delay = patience(2)
    s = start("hello", own={"drainDelay": f"{delay * 1000:.0f}ms"})
    with s.connect() as old:
        assert old.ask("GET").header("Connection") is None
        begin = time.monotonic()
        s.signal()
        wait_until(lambda: s.ready() == 503)
        assert s.live() == 200
        answer = s.ask(s.health, "/ready")
        assert answer.body == b'{"processor_readiness": "Processor is draining"}'
        answer = old.ask("GET")
        assert (answer.status, answer.closes) == (200, True)
        answer = s.get()
        assert (answer.status, answer.closes) == (200, True)
        assert s.wait() == 0
        assert delay - 0.1 < time.monotonic() - begin < delay + patience(2)


def test_hanging_handler_is_given_up(start):
    s = start("hang", workers=2, env=STRAYS, trigger={"workerTerminationTimeout": "500ms"})
    with s.connect() as c:
        c.send(build_request("POST", "/", b"hang"))
        s.wait_metric(1, "stator_events_in_flight")
        took = s.stop()
        assert 0.4 < took < patience(2)
        assert c.read_to_end() == b""
    assert s.log("it is given up")


def test_hanging_inline_handler_is_given_up(start):
    s = start("hang_inline", env=STRAYS, trigger={"workerTerminationTimeout": "300ms"})
    with s.connect() as c:
        c.send(build_request("POST", "/", b"hang"))
        s.wait_log("The handler hangs")
        assert s.stop() < patience(5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_at_once(start, number):
    """If it comes more than a second later: before that it is the same wish, told twice."""
    s = start("sleep", workers=2, env=STRAYS)
    with s.connect() as c, s.connect() as served:
        c.send(build_request("POST", "/", b"60000"))
        served.send(build_request("POST", "/", b"300"))
        s.wait_metric(2, "stator_events_in_flight")
        s.signal()
        s.wait_log("Draining")
        s.signal()
        assert served.read_response().body == b"300"
        time.sleep(1)
        begin = time.monotonic()
        s.signal(number)
        assert s.wait() == 0
        assert time.monotonic() - begin < patience(2)
        assert len(s.log("Second signal")) == 1


def test_kill_frees_everything_for_the_next(start):
    """After kill -9 the same addresses can be taken at once."""
    s = start("hello")
    with s.connect() as c:
        assert c.ask("GET").status == 200
        port = s.port
        s.signal(signal.SIGKILL)
        assert s.wait() == -signal.SIGKILL
        assert c.is_closed()
        again = start("hello", url=f"127.0.0.1:{port}")
        assert again.get().status == 200


def test_started_and_stopped_many_times(start):
    """Whatever the phase in which the signal comes, it ends with 0; or by the signal before there
    is anything to end."""
    for i in range(15):
        s = start("echo_blocking", workers=2, ready=False, env=STRAYS)
        time.sleep(patience(0.002 * i))
        s.signal()
        status = s.wait()
        assert status == 0 or (status, s.stdout()) == (-signal.SIGTERM, ""), s.report()
        assert s.stderr() == ""


# Load

class Load:
    """Clients that ask until the end; what each got."""

    def __init__(self, s: Stator, keep: bool, clients: int):
        self.s, self.keep = s, keep
        self.address = s.address
        self.answered = 0
        self.lost: list[str] = []     # requests on an accepted connection without an answer
        self.unused: list[float] = []  # closed without an answer: seconds since it was used
        self.unaccepted = 0            # closed without an answer to the first request
        self.end = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._client) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def _client(self) -> None:
        while not self.end.is_set():
            try:
                c = Connection(self.address, patience(15))
            except OSError:
                return  # refused: the listener is gone
            with c:
                if not self._ask_on(c):
                    return

    def _ask_on(self, c: Connection) -> bool:
        """Asks on one connection until that ends. False: give up."""
        used = 0
        asked = last = time.monotonic()
        while not self.end.is_set():
            last, asked = asked, time.monotonic()
            try:
                answer = c.ask("POST", "/", b"3")
                assert (answer.status, answer.body) == (200, b"3")
            except (Closed, OSError) as e:
                with self.lock:
                    if getattr(e, "got", b""):
                        self.lost.append(f"request {used}: {e}")
                    elif used == 0:
                        self.unaccepted += 1
                    else:
                        self.unused.append(time.monotonic() - last)
                return True
            except AssertionError as e:
                with self.lock:
                    self.lost.append(f"request {used}: {e}")
                return False
            used += 1
            with self.lock:
                self.answered += 1
            if answer.closes or not self.keep:
                return True
        return True

    def join(self) -> None:
        self.end.set()
        for t in self.threads:
            t.join()


@pytest.mark.parametrize("handler", ["sleep", "echo"])
@pytest.mark.parametrize("keep", [True, False])
def test_no_request_is_lost_under_load(start, handler, keep):
    """With a drainDelay every client that goes on learns in time: not even a kept connection
    breaks, unless its client paused for that long. A client that connects in the instant in which
    the listener closes may be refused by the kernel after its connect, as it is never accepted."""
    s = start(handler, workers=4, own={"drainDelay": "300ms"})
    load = Load(s, keep, clients=8)
    wait_until(lambda: load.answered > 100)
    s.signal()
    s.wait_log("Draining")
    assert s.wait() == 0
    load.join()
    assert load.lost == []
    assert all(idle >= 0.3 for idle in load.unused), load.unused
    assert load.unaccepted <= 8


@pytest.mark.parametrize("keep", [True, False])
def test_no_begun_answer_is_lost_without_delay(start, keep):
    """A client may find an idle connection closed, as ever; a request that was read is answered."""
    s = start("sleep", workers=4)
    load = Load(s, keep, clients=8)
    wait_until(lambda: load.answered > 50)
    begin = time.monotonic()
    s.signal()
    assert s.wait() == 0
    assert time.monotonic() - begin < patience(2)
    load.join()
    assert load.lost == []


def test_requests_that_arrived_with_the_signal_are_served(start):
    """They lie in the kernel, unread and unaccepted, while the only loop is busy."""
    s = start("hang_inline", own={"loops": 1}, workers=1)
    address = s.address
    with s.connect() as busy, s.connect() as kept:
        assert kept.ask("GET").status == 200
        busy.send(build_request("POST", "/", b"hang %d" % patience(1500)))
        s.wait_log("The handler hangs")
        fresh = [Connection(address, patience(10)) for _ in range(5)]
        for c in fresh:
            c.send(build_request("GET"))
        kept.send(build_request("GET"))
        s.signal()
        for c in (busy, kept, *fresh):
            assert c.read_response().status == 200
            assert c.is_closed()
            c.close()
    assert s.wait() == 0


# Limits of the start

@pytest.mark.parametrize("spec, said", [
    ({"triggers": {"http": {"kind": "http", "url": "127.0.0.1:0", "numWorkers": 2000}}},
     "numWorkers of all triggers together is 2000, at most 1024 expected"),
    ({"triggers": {f"t{i}": {"kind": "cron", "attributes": {"interval": "1h"}}
                   for i in range(65)}}, "65 triggers, at most 64 expected"),
])
def test_too_much_is_one_clear_line(start, spec, said):
    s = start("echo_blocking", spec=spec, ready=False)
    assert s.wait() == 1
    assert said in s.stderr() and len(s.stderr().splitlines()) == 1, s.stderr()


def test_as_many_workers_as_there_may_be(start):
    s = start("echo_blocking", workers=1024)
    assert s.post(b"x").body == b"x"
    assert s.metric("stator_workers", state="idle") == 1024


# Command line of the start

def test_missing_folder_and_file():
    done = run_cli("run", "/nowhere/at/all")
    assert done.returncode == 1
    assert "/nowhere/at/all" in done.stderr and len(done.stderr.splitlines()) == 1
    done = run_cli("run", "/nowhere/at/all.so")
    assert done.returncode == 1 and "/nowhere/at/all.so" in done.stderr


def test_handler_without_configuration(tmp_path):
    """`stator run FILE.so --port N` serves; the function is named after the file."""
    with taken_port() as port:
        pass
    with bare(handler_path("hello"), "--port", str(port)) as p:
        read_until_ready(p)
        with Connection(("127.0.0.1", port), patience(10)) as c:
            assert c.ask("GET").body == b"Hello, world!"
        p.send_signal(signal.SIGTERM)
        assert p.wait(patience(10)) == 0
