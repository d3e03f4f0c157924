"""spec.stator.isolation: process for native handlers: the same answers as in the processor's own
process, and what only a process of its own gives: a crash or a hang costs one event."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from http_raw import Closed, build_request
from native_outcomes import OUTCOMES
from stator_proc import SANITIZER, STRAYS, Stator, patience, wait_until
from test_crash import SANITIZERS_ASIDE
from test_native import pattern

PROCESS = {"isolation": "process"}
RESTARTS = "stator_worker_restarts_total"


@pytest.fixture(name="isolated")
def isolated_fixture(start) -> Callable[..., Stator]:
    """As start, with isolation: process."""
    def isolated(handler: str, own: dict | None = None, **options: object) -> Stator:
        return start(handler, own=PROCESS | (own or {}), **options)
    return isolated


@pytest.fixture(name="kept", scope="module")
def kept_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Stator]]:
    """As shared, with isolation: process; the workers may have 8 events at once."""
    servers: dict[str, Stator] = {}

    def get(handler: str) -> Stator:
        if handler not in servers:
            servers[handler] = Stator(tmp_path_factory.mktemp(handler), handler, workers=2,
                                      own=PROCESS, trigger={"maxConcurrency": 8})
        return servers[handler]

    try:
        yield get
        for s in servers.values():
            s.stop()
    finally:
        for s in servers.values():
            s.kill()


def is_host(pid: int) -> bool:
    """False too when it has just ended."""
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii") as f:
            return f.read().startswith("stator-native-h")
    except OSError:
        return False


def workers_of(s: Stator) -> list[int]:
    """The processes of its workers."""
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(s.pid)], capture_output=True,
                          text=True, check=False)
    return [int(pid) for pid in done.stdout.split() if is_host(int(pid))]


def memory_of(pid: int) -> int:
    """Resident bytes of a process."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


# The same answers

@pytest.mark.parametrize("how, status, body, kind", OUTCOMES)
def test_outcomes(kept, how, status, body, kind):
    answer = kept("outcome").post(how)
    assert (answer.status, answer.body, answer.header("Content-Type")) == (status, body, kind)


@pytest.mark.parametrize("how, status, after, body", [
    (b"retry", 503, "3", b""), (b"retry-text", 429, "1", b"slow down")])
def test_retry_names_a_time(kept, how, status, after, body):
    answer = kept("outcome").post(how)
    assert (answer.status, answer.header("Retry-After"), answer.body) == (status, after, body)


@pytest.mark.parametrize("handler", ["echo", "echo_blocking"])
@pytest.mark.parametrize("size", [0, 1, 1000, 65536, 65537, 300_000, 3_000_000])
def test_bodies(kept, handler, size):
    body = pattern(size)
    with kept(handler).connect() as c:
        for _ in range(3):
            answer = c.ask("POST", "/", body)
            assert (answer.status, answer.body) == (200, body)


def test_large_bodies_of_many_clients(kept):
    """More than the pool of bodies holds at once waits, or goes in pieces; nothing is mixed up."""
    s = kept("echo_blocking")
    wrong: list[object] = []

    def client(number: int) -> None:
        try:
            with s.connect() as c:
                for i in range(6):
                    body = bytes([number * 16 + i]) * (400_000 + 1000 * number)
                    answer = c.ask("POST", "/", body)
                    if answer.body != body:
                        wrong.append((number, i, answer.status, len(answer.body)))
        except Exception as e:  # noqa: BLE001 - whatever it is, the test reports it
            wrong.append(e)
    threads = [threading.Thread(target=client, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_small_ring(isolated):
    """Records have up to a quarter of it; what does not fit goes by the pool."""
    s = isolated("large", own={"ringBytes": "64Ki"})
    for kib in (0, 10, 15, 16, 40, 64, 65, 200):
        with s.connect() as c:
            c.send(build_request("GET", f"/?{kib}") * 4)
            for _ in range(4):
                assert c.read_response().body == pattern(kib * 1024)


def test_requests_larger_than_records(isolated):
    """A body goes by the pool where its record would be too large; what can't be sent at all fails
    alone, and its only worker goes on."""
    s = isolated("echo", workers=1, own={"ringBytes": "64Ki"},
                 trigger={"attributes": {"readBufferSize": 65536}})
    large = [(f"X-{i}", "v" * 1000) for i in range(24)]
    for kib in (1, 20, 40, 63, 64, 200):
        assert s.request("POST", "/", pattern(kib * 1024)).body == pattern(kib * 1024)
        answer = s.request("POST", "/", b"x", large)
        assert (answer.status, b"ringBytes" in answer.body) == (500, True)
    assert s.request("POST", "/", b"x").body == b"x"


def test_reply_larger_than_the_pool_leaves_in_pieces(isolated):
    s = isolated("large", own={"bodyMemory": "1Mi"})
    for kib in (100, 3000, 20_000):
        with s.connect() as c:
            answer = c.ask("GET", f"/?{kib}")
            assert (answer.status, answer.body) == (200, pattern(kib * 1024))
            assert (answer.header("Transfer-Encoding") == "chunked") == (kib > 1024)


def described(s: Stator) -> dict[str, str]:
    answer = s.request("POST", "/a%20b/c?x=1&y=2", b"the body",
                       [("X-Test", "first"), ("x-TEST", "last"), ("Content-Type", "text/x-odd")])
    assert answer.status == 200
    return dict(line.split("=", 1) for line in answer.body.decode().splitlines())


def test_event_is_described_alike(kept, shared):
    alone, inside = described(kept("describe")), described(shared("describe"))
    for name in ("id", "peer", "timestamp_ns"):
        one, other = alone.pop(name), inside.pop(name)
        assert re.sub(r"[0-9a-f]", "0", one) == re.sub(r"[0-9a-f]", "0", other)
    assert alone == inside
    assert alone["trigger_name"] == "http" and alone["x-test"] == "last"


@pytest.mark.parametrize("handler", ["describe", "count", "headers", "abi_v1_0", "newer_minor",
                                     "old_size"])
def test_answers_are_alike(start, isolated, handler):
    inside = start(handler, workers=1).get("/?10")
    alone = isolated(handler, workers=1).get("/?10")
    assert (alone.status, alone.header("Content-Type")) == (inside.status,
                                                            inside.header("Content-Type"))
    if handler != "describe":
        assert alone.body == inside.body
        assert alone.header("X-Abi") == inside.header("X-Abi")


def test_time_left(isolated):
    s = isolated("describe", spec={"eventTimeout": "30s"})
    assert 20_000 < int(described(s)["time_left_ms"]) <= 30_000


def test_headers_come_back(kept):
    sent = [("X-One", "1"), ("X-Two", ""), ("x-one", "again"), ("X-Long", "v" * 4000)]
    with kept("headers").connect() as c:
        answer = c.ask("POST", "/", b"", sent)
    got = [(name, value) for name, value in answer.headers if name.lower().startswith("x-")]
    assert got == sent
    assert all(f"{name}: {value}\n".encode() in answer.body for name, value in sent)


def test_log(isolated):
    s = isolated("describe")
    answer = s.get(headers=[("X-Nuclio-Log-Level", "debug")])
    assert "described an event" in (answer.header("X-Nuclio-Logs") or "")
    assert s.wait_log("described no event")


def test_each_worker_has_its_own_user_data(isolated):
    s = isolated("count", workers=3)
    last: dict[str, int] = {}
    connections = [s.connect() for _ in range(6)]
    for _ in range(50):
        for c in connections:
            c.send(build_request("GET"))
        for c in connections:
            worker, events = c.read_response().body.decode().split()
            last[worker] = max(last.get(worker, 0), int(events))
    assert set(last) <= {"0/3", "1/3", "2/3"}
    assert sum(last.values()) == 300
    for c in connections:
        c.close()


def test_pipelines(kept):
    with kept("echo").connect() as c:
        for _ in range(5):
            c.send(b"".join(build_request("POST", "/", b"%d" % i) for i in range(200)))
            assert [int(c.read_response().body) for _ in range(200)] == list(range(200))


# Streams

@pytest.mark.parametrize("handler", ["stream", "stream_inline"])
@pytest.mark.parametrize("kib", [0, 1, 16, 5000])
def test_streams_arrive_whole(kept, handler, kib):
    with kept(handler).connect() as c:
        answer = c.ask("GET", f"/?{kib}")
        assert answer.header("Transfer-Encoding") == "chunked"
        assert answer.body == pattern(kib * 1024)
        assert c.ask("GET", "/?1").body == pattern(1024)


@pytest.mark.parametrize("status, body", [(200, b"some body"), (204, b""), (404, b"some body")])
def test_stream_whose_status_allows_no_body(kept, status, body):
    with kept("stream_status").connect() as c:
        assert c.ask("GET", f"/?{status}").body == body
        assert c.ask("GET", "/?200").body == b"some body"


@pytest.mark.parametrize("handler", ["stream", "stream_inline"])
def test_stream_waits_for_a_slow_client(isolated, handler):
    """Neither process grows with what the client has not read."""
    s = isolated(handler, workers=1)
    s.get("/?64")
    limit = (32 if SANITIZER else 8) << 20  # a sanitizer keeps what was freed for a while
    before, worker = s.memory(), workers_of(s)[0]
    worker_before = memory_of(worker)
    with s.connect(rcvbuf=8192) as c:
        c.send(build_request("GET", "/?40000"))
        c.read_some(1000)
        time.sleep(patience(0.2))
        assert s.memory() - before < limit
        assert memory_of(worker) - worker_before < limit
        assert s.metric("stator_events_in_flight") == 1
        assert c.read_until(b"\r\n0\r\n\r\n") > 40000 * 1024


@pytest.mark.parametrize("handler", ["stream", "stream_inline"])
def test_streams_of_many_clients(kept, handler):
    connections = [kept(handler).connect() for _ in range(8)]
    for c in connections:
        c.send(build_request("GET", "/?1000"))
    for c in connections:
        assert c.read_response().body == pattern(1000 * 1024)
        c.close()


def test_stream_of_a_failed_handler_is_cut(kept):
    with kept("stream").connect() as c:
        c.send(build_request("GET", "/?cut"))
        with pytest.raises(Closed):
            c.read_response()


@pytest.mark.parametrize("handler, query", [("stream", "forever"), ("stream_inline", "400000")])
def test_client_leaves_in_the_middle_of_a_stream(isolated, handler, query):
    s = isolated(handler, workers=1)
    for leave in ("reset", "close"):
        c = s.connect(rcvbuf=8192)
        c.send(build_request("GET", f"/?{query}"))
        c.read_some(50_000)
        getattr(c, leave)()
        s.wait_metric(0, "stator_events_in_flight")
        assert s.get("/?1").body == pattern(1024)
    assert s.metric(RESTARTS) == 0


# Deferred

@pytest.mark.parametrize("handler", ["defer", "defer_blocking"])
@pytest.mark.parametrize("how, status, body", [
    (b"early", 201, b"early"),
    (b"30", 201, b"30"),
    (b"error 5", 502, b"error 5"),
    (b"said 5", 203, b"said before"),
    (b"twice 5", 201, b"twice 5"),
])
def test_deferred_answers(kept, handler, how, status, body):
    answer = kept(handler).post(how)
    assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize("handler", ["defer", "defer_blocking"])
def test_many_deferred_at_once(isolated, handler):
    """As many as maxConcurrency allows."""
    s = isolated(handler, workers=1, trigger={"maxConcurrency": 100})
    connections = [s.connect() for _ in range(100)]
    begin = time.monotonic()
    for c in connections:
        c.send(build_request("POST", "/", b"300"))
    for c in connections:
        assert c.read_response().status == 201
        c.close()
    assert time.monotonic() - begin < patience(5)
    s.wait_metric(0, "stator_events_in_flight")


@pytest.mark.parametrize("handler", ["defer", "defer_blocking"])
def test_client_gone_while_deferred(isolated, handler):
    """Its token is dead; the worker goes on."""
    s = isolated(handler, workers=1, trigger={"maxConcurrency": 8})
    assert s.post(b"twice 5").status == 201
    wait_until(lambda: s.get("/?gone").body == b"1")
    c = s.connect()
    c.send(build_request("POST", "/", b"held"))
    wait_until(lambda: s.get("/?held").body == b"1")
    c.reset()
    s.wait_metric(1, "stator_client_gone_total")
    assert s.get("/?tell").body == b"1"
    wait_until(lambda: s.get("/?gone").body == b"2")
    assert s.metric(RESTARTS) == 0


# Crashes and hangs

@pytest.mark.parametrize("handler", ["crash", "crash_blocking"])
@pytest.mark.parametrize("how, number", [(b"segv", signal.SIGSEGV), (b"abort", signal.SIGABRT)])
def test_crash_costs_one_event(isolated, handler, how, number):
    s = isolated(handler, workers=1, env=SANITIZERS_ASIDE)
    with s.connect() as c:
        assert c.ask("GET").body == b"alive"
        answer = c.ask("POST", "/", how)
        assert answer.status == 500
        assert signal.Signals(number).name in answer.body.decode()
        assert c.ask("GET").body == b"alive"  # the same connection, the next worker
    s.wait_metric(1, RESTARTS)
    s.wait_metric(1, "stator_workers", state="idle")
    assert s.live() == s.ready() == 200


def test_crash_among_others(isolated):
    """Only those that crash fail; those behind them go to the next worker."""
    s = isolated("crash", workers=2, env=SANITIZERS_ASIDE)
    with s.connect() as c:
        for _ in range(20):  # a worker that is quick gets several events
            c.send(build_request("GET") * 50)
            assert all(c.read_response().body == b"alive" for _ in range(50))
    connections = [s.connect() for _ in range(9)]
    for i, c in enumerate(connections):
        c.send(build_request("POST", "/", b"segv" if i == 4 else b"x"))
    assert [c.read_response().status for c in connections] == [200] * 4 + [500] + [200] * 4
    for c in connections:
        c.close()


def test_killed_under_load(isolated):
    """kill -9 now and then: every request gets one answer, and few of them fail."""
    s = isolated("echo_blocking", workers=2)
    statuses: list[int] = []
    over = threading.Event()

    def client() -> None:
        with s.connect() as c:
            while not over.is_set():
                statuses.append(c.ask("POST", "/", b"x").status)
    threads = [threading.Thread(target=client) for _ in range(4)]
    for t in threads:
        t.start()
    for _ in range(4):
        os.kill(wait_until(lambda: workers_of(s))[0], signal.SIGKILL)
        time.sleep(patience(0.1))
    over.set()
    for t in threads:
        t.join()
    assert set(statuses) <= {200, 500}
    assert statuses.count(500) <= 16
    assert s.post(b"well").body == b"well"


def test_hang_is_answered_408(isolated):
    s = isolated("hang", workers=1, spec={"eventTimeout": "300ms"})
    with s.connect() as c:
        begin = time.monotonic()
        answer = c.ask("POST", "/", b"hang")
        assert 0.25 < time.monotonic() - begin < patience(2)
        assert (answer.status, answer.body) == (408, b'{"error": "handler timed out"}')
        assert c.ask("GET").body == b"alive"
    s.wait_metric(1, RESTARTS)
    assert s.live() == 200


# Start and end

@pytest.mark.parametrize("handler, said", [
    ("init_fails", r"init\(\) of handler \S*/init_fails\.so returned 42"),
    ("init_fails_inline", r"init\(\) of handler \S*/init_fails_inline\.so returned 42"),
    ("bad_no_symbol", r"does not export stator_handler_v1: .*STATOR_EXPORT"),
    ("bad_newer_abi", r"needs version 3 of the handler ABI, this processor has 1"),
    ("bad_undefined", r"cannot be loaded: .*function_that_nobody_wrote"),
    ("/nowhere/at/all.so", r"handler /nowhere/at/all\.so: no such file"),
])
def test_bad_handler_is_one_clear_line(isolated, handler, said):
    s = isolated(handler, ready=False, workers=2, env=STRAYS)
    assert s.wait() == 1
    lines = s.stderr().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("stator: ")
    assert re.search(said, lines[0]), lines[0]


def test_init_says_why_in_the_log(isolated):
    s = isolated("init_fails", ready=False, env=STRAYS)
    assert s.wait() == 1
    assert s.log("the model is missing")


def test_without_its_executable(isolated, tmp_path):
    s = isolated("hello", ready=False, env={"STATOR_LIBEXEC": str(tmp_path)})
    assert s.wait() == 1
    assert "stator-native-host is not beside the program" in s.stderr()


def test_stop_calls_fini(isolated):
    """defer's fini joins its thread: the workers end by themselves."""
    s = isolated("defer", workers=2)
    assert s.post(b"5").status == 201
    assert len(workers_of(s)) == 2
    assert s.stop() < patience(5)


@pytest.mark.skipif(bool(SANITIZER), reason="a sanitizer keeps memory and descriptors of its own")
def test_handler_inherits_no_descriptors(isolated):
    s = isolated("hello", workers=1)
    assert s.get().status == 200
    pid = workers_of(s)[0]
    flags = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as f:
            flags[int(fd)] = int(re.search(r"flags:\s+([0-7]+)", f.read())[1], 8)
    assert all(flags[fd] & os.O_CLOEXEC for fd in flags if fd > 2)
