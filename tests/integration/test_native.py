"""Native handlers: every way to answer, to defer, to stream, and to refuse to start."""

import re
import shutil
import threading
import time

import pytest
from http_raw import Closed, build_request
from native_outcomes import OUTCOMES
from stator_proc import STRAYS, handler_path, patience, run_cli, wait_until

LATE = "stator_late_results_total"


# Outcomes

@pytest.mark.parametrize("how, status, body, kind", OUTCOMES)
def test_outcomes(shared, how, status, body, kind):
    answer = shared("outcome").post(how)
    assert (answer.status, answer.body, answer.header("Content-Type")) == (status, body, kind)
    assert not answer.closes


@pytest.mark.parametrize("how, status, after, body", [
    (b"retry", 503, "3", b""),  # 2,500 ms, rounded up
    (b"retry-text", 429, "1", b"slow down"),
])
def test_retry_names_a_time(shared, how, status, after, body):
    answer = shared("outcome").post(how)
    assert (answer.status, answer.header("Retry-After"), answer.body) == (status, after, body)


def test_outcomes_are_counted(start):
    """Success is what the handler calls STATOR_OK."""
    s = start("outcome")
    for how in (b"empty", b"last-reply", b"token-without-defer", b"error-418", b"retry", b"reject"):
        s.post(how)
    handled = "nuclio_processor_handled_events_total"
    s.wait_metric(3, handled, result="success")
    s.wait_metric(3, handled, result="failure")


# Deferred

@pytest.mark.parametrize("handler", ["defer", "defer_blocking"])
@pytest.mark.parametrize("how, status, body", [
    (b"early", 201, b"early"),
    (b"30", 201, b"30"),
    (b"error 5", 502, b"error 5"),
    (b"said 5", 203, b"said before"),
    (b"twice 5", 201, b"twice 5"),
])
def test_deferred_answers(shared, handler, how, status, body):
    """A thread of the handler's own answers later."""
    answer = shared(handler).post(how)
    assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize("handler", ["defer", "defer_blocking"])
def test_second_and_late_resolve_are_gone(start, handler):
    s = start(handler, spec={"eventTimeout": f"{patience(1000):.0f}ms"})
    assert s.post(b"twice 5").status == 201
    wait_until(lambda: s.get("/?gone").body == b"1")
    answer = s.post(b"held")
    assert (answer.status, answer.body) == (408, b'{"error": "handler timed out"}')
    assert s.get("/?tell").body == b"1"
    wait_until(lambda: s.get("/?gone").body == b"2")
    assert s.post(b"never").status == 408
    assert s.live() == s.ready() == 200  # its worker came back at once: nobody is stuck
    assert s.metric("stator_events_in_flight") == 0


@pytest.mark.parametrize("handler", ["defer", "defer_blocking"])
def test_many_deferred_at_once(start, handler):
    """None of them holds a worker."""
    s = start(handler, workers=1)
    connections = [s.connect() for _ in range(100)]
    for c in connections:
        c.send(build_request("POST", "/", b"held"))
    wait_until(lambda: s.get("/?held").body == b"100")  # by that worker
    s.wait_metric(100, "stator_events_in_flight")
    assert s.get("/?tell").body == b"100"
    for c in connections:
        assert c.read_response().status == 201
        c.close()
    assert s.metric("stator_events_in_flight") == 0


def test_deferred_answers_of_a_pipeline_keep_its_order(shared):
    delays = [90, 60, 30, 0, 45]
    with shared("defer").connect() as c:
        c.send(b"".join(build_request("POST", "/", b"%d" % ms) for ms in delays))
        assert [int(c.read_response().body) for _ in delays] == delays


@pytest.mark.parametrize("handler", ["defer", "defer_blocking"])
def test_client_gone_while_deferred(start, handler):
    s = start(handler)
    c = s.connect()
    c.send(build_request("POST", "/", b"held"))
    wait_until(lambda: s.get("/?held").body == b"1")
    c.reset()
    s.wait_metric(1, "stator_client_gone_total")
    assert s.get("/?tell").body == b"1"
    wait_until(lambda: s.get("/?gone").body == b"1")
    assert s.metric("stator_events_in_flight") == 0


# Streams

def pattern(n: int) -> bytes:
    """What the handlers stream."""
    return (bytes(range(251)) * (n // 251 + 1))[:n]


@pytest.mark.parametrize("handler", ["stream", "stream_inline"])
@pytest.mark.parametrize("kib", [0, 1, 16, 5000])
def test_streams_arrive_whole(shared, handler, kib):
    with shared(handler).connect() as c:
        answer = c.ask("GET", f"/?{kib}")
        assert answer.header("Transfer-Encoding") == "chunked"
        assert answer.body == pattern(kib * 1024)
        assert c.ask("GET", "/?1").body == pattern(1024)


@pytest.mark.parametrize("handler", ["stream", "stream_inline"])
def test_stream_to_http_1_0_ends_with_the_connection(shared, handler):
    with shared(handler).connect() as c:
        c.send(build_request("GET", "/?100", headers=[("Connection", "keep-alive")],
                             version="1.0"))
        answer = c.read_response()
        assert answer.closes and answer.header("Transfer-Encoding") is None
        assert answer.body == pattern(100 * 1024)


@pytest.mark.parametrize("handler", ["stream", "stream_inline"])
def test_stream_to_head_has_no_body(shared, handler):
    with shared(handler).connect() as c:
        answer = c.ask("HEAD", "/?100")
        assert (answer.status, answer.body) == (200, b"")
        assert c.ask("GET", "/?1").body == pattern(1024)


@pytest.mark.parametrize("status, body", [(200, b"some body"), (201, b"some body"), (204, b""),
                                          (304, b""), (404, b"some body")])
def test_stream_whose_status_allows_no_body(shared, status, body):
    """What the handler writes all the same must not reach the wire."""
    with shared("stream_status").connect() as c:
        c.send(build_request("GET", f"/?{status}") + build_request("GET", "/?200"))
        answer = c.read_response()
        assert (answer.status, answer.body) == (status, body)
        assert (answer.header("Transfer-Encoding") is None) == (body == b"")
        assert c.read_response().body == b"some body"


@pytest.mark.parametrize("handler", ["stream", "stream_inline"])
def test_stream_waits_for_a_slow_client(start, handler):
    """Memory does not grow with what the client has not read; then all of it comes."""
    s = start(handler)
    s.get("/?64")
    before = s.memory()
    with s.connect(rcvbuf=8192) as c:
        c.send(build_request("GET", "/?40000"))
        c.read_some(1000)
        time.sleep(patience(0.2))
        assert s.memory() - before < 8 << 20
        assert s.metric("stator_events_in_flight") == 1
        assert c.read_until(b"\r\n0\r\n\r\n") > 40000 * 1024


@pytest.mark.parametrize("handler", ["stream", "stream_inline"])
def test_streams_of_many_clients(shared, handler):
    """Side by side, from few workers, at the pace of each."""
    s = shared(handler)
    connections = [s.connect() for _ in range(8)]
    for c in connections:
        c.send(build_request("GET", "/?1000"))
    for c in reversed(connections):
        assert c.read_response().body == pattern(1000 * 1024)
        c.close()


def test_stream_of_a_failed_handler_is_cut(shared):
    """The end of the chunks never comes, so that the client knows."""
    with shared("stream").connect() as c:
        c.send(build_request("GET", "/?cut"))
        with pytest.raises(Closed):
            c.read_response()
    with shared("stream").connect() as c:
        c.send(build_request("GET", "/?cut"))
        got = c.read_to_end()
    assert got.endswith(b"4\r\nhalf\r\n")


def test_cut_stream_behind_another_request(shared):
    """What came before it is not harmed."""
    with shared("stream").connect() as c:
        c.send(build_request("GET", "/?300") + build_request("GET", "/?cut") +
               build_request("GET", "/?1"))
        assert c.read_response().body == pattern(300 * 1024)
        assert c.read_head().status == 200
        assert c.read_to_end() == b"4\r\nhalf\r\n"


def test_streams_in_a_pipeline(shared):
    with shared("stream").connect() as c:
        c.send(b"".join(build_request("GET", f"/?{kib}") for kib in (600, 1, 0, 900)))
        for kib in (600, 1, 0, 900):
            assert c.read_response().body == pattern(kib * 1024)


def test_client_leaves_in_the_middle_of_a_stream(start):
    """An endless stream ends: write() says GONE and the worker is free again."""
    s = start("stream", workers=1)
    for leave in ("reset", "close"):
        c = s.connect()
        c.send(build_request("GET", "/?forever"))
        c.read_some(100_000)
        getattr(c, leave)()
        s.wait_metric(1, "stator_workers", state="idle")
        assert s.get("/?1").body == pattern(1024)
    assert s.metric("stator_events_in_flight") == 0
    assert s.metric("stator_client_gone_total", stage="running") == 2


def test_client_leaves_an_inline_stream(start):
    s = start("stream_inline")
    c = s.connect(rcvbuf=8192)
    c.send(build_request("GET", "/?40000"))
    c.read_some(10_000)
    c.reset()
    s.wait_metric(0, "stator_events_in_flight")
    assert s.get("/?1").body == pattern(1024)


# Workers

def test_each_worker_has_its_own_user_data(start):
    """Counts of the workers add up; the handler aborts if two events of one overlap."""
    s = start("count", workers=3)
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


@pytest.mark.parametrize("workers, loops, names", [
    (None, 2, {"0/2", "1/2"}),  # NONBLOCKING: one a loop
    (1, 2, {"0/1"}),            # one loop runs the handler for both
    (1, 4, {"0/1"}),
    (3, 2, {"0/2", "1/2"}),     # never more than loops
    (2, 3, {"0/2", "1/2"}),
])
def test_inline_workers(start, workers, loops, names):
    s = start("count_inline", workers=workers, own={"loops": loops})
    seen: dict[str, int] = {}
    total = 0

    def ask_all() -> bool:
        nonlocal total
        with s.connect() as c:
            c.send(build_request("GET") * 20)
            for _ in range(20):
                worker, events = c.read_response().body.decode().split()
                seen[worker] = max(seen.get(worker, 0), int(events))
        total += 20
        return set(seen) == names
    wait_until(ask_all)
    assert sum(seen.values()) == total
    s.wait_metric(total, "nuclio_processor_handled_events_total", result="success")


def test_body_reaches_an_inline_worker_of_another_loop(start):
    s = start("echo", workers=1, own={"loops": 3})
    for i in range(12):
        body = b"%d" % i * 5000
        with s.connect() as c:
            assert c.ask("POST", "/a?b", body, [("X-A", "b")]).body == body
            assert c.ask("POST", "/", b"small").body == b"small"


def test_workers_run_in_parallel(start):
    s = start("sleep", workers=4)
    connections = [s.connect() for _ in range(4)]
    begin = time.monotonic()
    for c in connections:
        c.send(build_request("POST", "/", b"400"))
    for c in connections:
        assert c.read_response().body == b"400"
        c.close()
    assert 0.4 <= time.monotonic() - begin < 1.2 + patience(0.2)


def test_slow_event_does_not_hold_up_those_behind_it(start):
    """A worker that was quick was given several events; they are taken back when one is slow."""
    s = start("sleep", workers=2)
    with s.connect() as c:
        for _ in range(30):
            c.send(build_request("POST", "/", b"0") * 50)
            for _ in range(50):
                c.read_response()
    with s.connect() as slow, s.connect() as quick:
        slow.send(build_request("POST", "/", b"1000"))
        begin = time.monotonic()
        quick.send(build_request("POST", "/", b"0") * 20)
        for _ in range(20):
            assert quick.read_response().body == b"0"
        assert time.monotonic() - begin < 0.5 + patience(0.2)
        assert slow.read_response().body == b"1000"


def test_load_from_many_threads_of_clients(shared):
    """Every answer belongs to its request, on kept connections and on new ones."""
    s = shared("echo_blocking")
    wrong: list[object] = []

    def client(number: int) -> None:
        try:
            for i in range(40):
                with s.connect() as c:
                    for k in range(5):
                        body = b"%d-%d-%d" % (number, i, k) * (1 + 200 * (k == 3))
                        answer = c.ask("POST", "/", body)
                        if answer.body != body:
                            wrong.append((body, answer))
        except Exception as e:  # noqa: BLE001 - whatever it is, the test reports it
            wrong.append(e)
    threads = [threading.Thread(target=client, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# ABI

def test_handler_of_the_first_abi(start):
    answer = start("abi_v1_0").request("DELETE")
    assert (answer.status, answer.body, answer.header("X-Abi")) == (200, b"DELETE", "1.0")


@pytest.mark.parametrize("handler, body", [("newer_minor", b"from the future"),
                                           ("old_size", b"small")])
def test_other_minor_versions(start, handler, body):
    assert start(handler).get().body == body


# Refusals to start

@pytest.mark.parametrize("handler, said", [
    ("init_fails", r"init\(\) of handler \S*/init_fails\.so returned 42"),
    ("init_fails_inline", r"init\(\) of handler \S*/init_fails_inline\.so returned 42"),
    ("bad_no_symbol", r"does not export stator_handler_v1: .*STATOR_EXPORT"),
    ("bad_newer_symbol", r"needs version 2 of the handler ABI, this processor has 1"),
    ("bad_newer_abi", r"needs version 3 of the handler ABI, this processor has 1"),
    ("bad_abi", r"stator_handler_v1\.abi is 0x0: set it to STATOR_ABI"),
    ("bad_size", r"stator_handler_v1\.size is 0, at least \d+ expected"),
    ("bad_no_handle", r"stator_handler_v1\.handle is NULL"),
    ("bad_undefined", r"cannot be loaded: .*function_that_nobody_wrote"),
    ("/nowhere/at/all.so", r"handler /nowhere/at/all\.so: no such file"),
])
def test_bad_handler_is_one_clear_line(start, handler, said):
    s = start(handler, ready=False, env=STRAYS)
    assert s.wait() == 1
    lines = s.stderr().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("stator: ")
    assert re.search(said, lines[0]), lines[0]


@pytest.mark.parametrize("content, said", [
    (b"just text, no ELF at all", "not a shared object"),
    (b"\x7fELF", "not a shared object"),
    (b"", "not a shared object"),
    (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x28\x00" + bytes(60), "built for another CPU"),
])
def test_file_that_is_no_handler(start, tmp_path, content, said):
    (tmp_path / "odd.so").write_bytes(content)
    s = start(str(tmp_path / "odd.so"), ready=False)
    assert s.wait() == 1
    assert said in s.stderr() and len(s.stderr().splitlines()) == 1


def test_init_says_why_in_the_log(start):
    s = start("init_fails", ready=False, workers=3, env=STRAYS)
    assert s.wait() == 1
    # The log of a worker that fails while the processor ends already goes to stderr, too.
    assert s.log("the model is missing")
    assert len([line for line in s.stderr().splitlines() if line.startswith("stator:")]) == 1


def test_handler_beside_its_configuration(start, tmp_path):
    """spec.handler is looked for in the code directory, with and without its suffix."""
    shutil.copy(handler_path("hello"), tmp_path / "mine.so")
    for name in ("mine.so", "mine"):
        (tmp_path / "function.yaml").write_text(
            f"spec: {{runtime: native, handler: {name}, triggers: {{http: {{kind: http, "
            "url: 'unix:/nowhere/at/all'}}}\n", encoding="utf-8")
        done = run_cli("run", str(tmp_path))
        assert done.returncode == 1
        assert 'listen on "unix:/nowhere/at/all"' in done.stderr


def test_environment(start):
    """Nuclio's variables of a function, and spec.env."""
    s = start("environment", spec={"description": "says it", "version": 7,
                                   "env": [{"name": "LEVEL", "value": "high"},
                                           {"name": "FROM", "valueFrom": {}}]},
              env={"LEVEL": "low", "FROM": "the pod"})
    for name, value in {"NUCLIO_FUNCTION_NAME": b"test", "NUCLIO_FUNCTION_VERSION": b"7",
                        "NUCLIO_FUNCTION_DESCRIPTION": b"says it", "LEVEL": b"high",
                        "FROM": b"the pod", "NO_SUCH": b"(none)"}.items():
        assert s.post(name.encode()).body == value
