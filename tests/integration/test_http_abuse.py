"""Clients that are slow, silent, greedy, many or gone: each is bounded, the others are served."""

import os
import resource
import socket
import time
from contextlib import ExitStack
from threading import Thread

import pytest
from http_raw import Connection, build_request
from stator_proc import SANITIZER, patience, wait_until

MIB = 1 << 20
GONE = "stator_client_gone_total"


# Slow clients

def test_slow_head_is_cut_off(start):
    """Single bytes don't move the deadline."""
    s = start("hello", attributes={"headerTimeout": "400ms"})
    with s.connect() as c:
        begin = time.monotonic()
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        c.socket.settimeout(0.05)
        while time.monotonic() - begin < patience(10):
            try:
                c.send(b"X: y\r\n")
                if c.socket.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                continue
        assert 0.3 < time.monotonic() - begin < patience(5)
        c.socket.settimeout(patience(10))
        answer = c.read_response()
        assert (answer.status, answer.closes) == (408, True)
        assert c.is_closed()
    assert s.metric("nuclio_processor_handled_events_total") == 0


def test_slow_head_behind_a_request_is_cut_off(start):
    s = start("hello", attributes={"headerTimeout": "300ms"})
    with s.connect() as c:
        c.send(build_request("GET") + b"GET / HTT")
        assert c.read_response().status == 200
        assert c.read_response().status == 408
        assert c.is_closed()


def test_slow_body_is_cut_off(start):
    """Without progress; a client that goes on, however slowly, is served."""
    limit = patience(1)
    s = start("echo", attributes={"bodyTimeout": f"{limit * 1000:.0f}ms",
                                  "headerTimeout": f"{limit * 1000:.0f}ms"})
    with s.connect() as c:
        c.send(build_request("POST", headers=[("Content-Length", "9")]))
        for _ in range(9):
            time.sleep(limit / 6)
            c.send(b"x")
        assert c.read_response().body == b"x" * 9
        begin = time.monotonic()
        c.send(build_request("POST", headers=[("Content-Length", "9")]) + b"x")
        answer = c.read_response()
        assert 0.8 * limit < time.monotonic() - begin < patience(5)
        assert (answer.status, answer.closes) == (408, True)
        assert c.is_closed()


def test_idle_connections_are_closed_without_a_word(start):
    s = start("hello", attributes={"idleTimeout": "300ms"})
    with s.connect() as fresh, s.connect() as used:
        assert used.ask("GET").status == 200
        begin = time.monotonic()
        assert (fresh.read_to_end(), used.read_to_end()) == (b"", b"")
        assert 0.2 < time.monotonic() - begin < patience(5)


def test_a_running_handler_is_not_idle(start):
    s = start("sleep", attributes={"idleTimeout": "100ms", "headerTimeout": "100ms"})
    assert s.post(b"500").body == b"500"


@pytest.mark.parametrize("what", ["one big answer", "a pipeline", "a stream"])
def test_client_that_does_not_read(start, what):
    """Memory stays bounded while it does not, and the write deadline cuts it off."""
    s = start({"a stream": "stream"}.get(what, "echo"),
              attributes={"writeTimeout": "600ms", "maxRequestBodySize": 8 * MIB})
    s.get("/?64")
    before = s.memory()
    most = before
    with s.connect(rcvbuf=4096) as c:
        begin = time.monotonic()
        if what == "a stream":
            c.send(build_request("GET", "/?forever"))
            assert c.read_head().status == 200  # it was accepted, and has begun
        elif what == "one big answer":
            c.send(build_request("POST", "/", b"x" * 8 * MIB))
        else:
            one = build_request("POST", "/", b"x" * 60_000)
            c.socket.setblocking(False)
            while time.monotonic() - begin < patience(20):
                try:
                    c.socket.send(one)
                except BlockingIOError:
                    time.sleep(0.01)
                except OSError:
                    break
                most = max(most, s.memory())
            c.socket.settimeout(patience(20))
        while s.metric("stator_connections") != 0:
            most = max(most, s.memory())
            assert time.monotonic() - begin < patience(20)
            time.sleep(0.02)
        assert time.monotonic() - begin > 0.5
    if not SANITIZER:  # they have memory of their own
        assert most - before < 24 * MIB
    assert s.live() == 200
    assert s.get("/?64").status == 200


def test_replies_that_wait_for_a_slow_one(start):
    """They are bounded like output: reading stops until the slow one is out."""
    count, body = 100, b"x" * 300_000
    s = start("sleep", workers=4, own={"loops": 1})
    with s.connect() as c:
        c.send(build_request("POST", "/", b"3000"))
        sender = Thread(target=c.send, args=(build_request("POST", "/", body) * count,))
        sender.start()
        begin = time.monotonic()
        done = 0
        while time.monotonic() - begin < 1.5:
            done = s.metric("nuclio_processor_handled_events_total", result="success")
            time.sleep(0.05)
        if time.monotonic() - begin < 2.5:  # the first one still sleeps
            assert 0 < done < count / 2
        assert c.read_response().body == b"3000"
        for _ in range(count):
            answer = c.read_response()
            assert (answer.status, len(answer.body)) == (200, len(body)), answer.body[:200]
        sender.join()


def test_slow_reader_is_no_dead_reader(start):
    """It is served however little it takes at a time: far less than the server's kernel buffers."""
    s = start("stream", attributes={"writeTimeout": "500ms"})
    with s.connect(rcvbuf=16384) as c:
        c.send(build_request("GET", "/?12000"))
        assert c.read_head().header("Transfer-Encoding") == "chunked"
        begin = time.monotonic()
        while time.monotonic() - begin < 1.2:
            time.sleep(0.02)
            assert c.read_some(16384)
        assert s.metric("stator_connections") == 1
        c.end_input()
        assert c.read_to_end().endswith(b"\r\n0\r\n\r\n")


# Many clients

def test_max_connections(start):
    """Those over the limit wait in the kernel's queue until one leaves."""
    s = start("hello", attributes={"maxConnections": 4}, own={"loops": 1})
    with ExitStack() as stack:
        inside = [stack.enter_context(s.connect()) for _ in range(4)]
        for c in inside:
            assert c.ask("GET").status == 200
        outside = [stack.enter_context(s.connect()) for _ in range(2)]
        for c in outside:
            c.send(build_request("GET"))
        assert outside[0].is_quiet(0.3)
        assert s.metric("stator_connections") == 4
        assert s.log("maxConnections is reached")
        inside[0].close()
        inside[1].close()
        for c in outside:
            assert c.read_response().status == 200
        assert inside[2].ask("GET").status == 200


@pytest.mark.parametrize("loops", [1, 2])
def test_out_of_descriptors(start, loops):
    """Those inside are served on; others are told, or wait until there is room again."""
    s = start("hello", nofile=60, own={"loops": loops})
    with ExitStack() as stack:
        clients = [stack.enter_context(s.connect()) for _ in range(90)]
        for c in clients:
            c.send(build_request("GET"))
        s.wait_log("Out of file descriptors")
        inside, refused, waiting = [], [], []
        time.sleep(patience(0.3))
        for c in clients:
            c.socket.settimeout(0.01)
            try:
                answer = c.read_response()
                {200: inside, 503: refused}[answer.status].append(c)
            except TimeoutError:
                waiting.append(c)
            c.socket.settimeout(c.timeout)
        assert len(inside) > 10
        assert waiting
        for c in inside:
            assert c.ask("GET").status == 200
        assert s.is_running()
        for c in inside:
            c.close()
        statuses = set()
        for c in waiting:
            statuses.add(c.read_response().status)
            c.close()
        assert statuses <= {200, 503} and 200 in statuses
    wait_until(lambda: s.ask(s.scrape, "/metrics").status == 200)  # its listener lacked them, too
    s.wait_metric(0, "stator_connections")
    for _ in range(20):
        assert s.get().status == 200


def test_descriptors_that_others_let_go(start):
    """A listener that ran out of them without a connection of its own goes on all the same."""
    s = start("hello", nofile=60, own={"loops": 1})
    with ExitStack() as stack:
        for _ in range(70):  # all taken by another listener
            stack.enter_context(Connection(s.health, patience(10)))
        s.wait_log("Out of file descriptors")
        assert s.get().status == 503
    assert s.get().status == 200
    assert s.ready() == 200


def test_descriptor_limit_is_raised(start):
    s = start("hello", prefix=["prlimit", "--nofile=64:"])
    soft = resource.prlimit(s.pid, resource.RLIMIT_NOFILE)
    assert soft[0] == soft[1] > 64


# Bodies

def upload(stack: ExitStack, s, length: int, sent: int) -> Connection:
    """A POST whose body has that length, of which so much is sent."""
    c = stack.enter_context(s.connect())
    c.send(build_request("POST", headers=[("Content-Length", str(length))]) + b"x" * sent)
    return c


@pytest.mark.parametrize("handler", ["echo", "echo_blocking"])
def test_body_memory(start, handler):
    """When it is used up new bodies wait, and are refused in the end; it is there again when the
    others are gone."""
    s = start(handler, own={"bodyMemory": 1_000_000})
    with ExitStack() as stack:
        held = [upload(stack, s, 60_000, 59_999) for _ in range(16)]
        s.wait_metric(960_000, "stator_body_memory_bytes")
        late = upload(stack, s, 59_000, 100)  # with its head: these bytes wait, too
        assert late.is_quiet(0.3)
        held[1].send(b"x")
        assert len(held[1].read_response().body) == 60_000
        s.wait_metric(959_000, "stator_body_memory_bytes")  # late has what held[1] gave back
        answer = upload(stack, s, 60_000, 100).read_response()
        late.send(b"x" * 58_900)
        assert late.read_response().body == b"x" * 59_000
        assert (answer.status, answer.body, answer.closes) == (503, b"Service Unavailable", True)
        assert s.get().status == 200  # without a body
        held[0].send(b"x")
        assert len(held[0].read_response().body) == 60_000
        s.wait_metric(840_000, "stator_body_memory_bytes")
        held[0].send(build_request("POST", headers=[("Content-Length", "60000")]) + b"y" * 60_000)
        assert held[0].read_response().body == b"y" * 60_000
    s.wait_metric(0, "stator_body_memory_bytes")
    assert s.post(b"x" * 300_000).body == b"x" * 300_000


def test_starved_body_goes_on_when_memory_is_free(start):
    """A body that was begun stops being read while others hold the memory, and is not refused."""
    s = start("echo", own={"bodyMemory": 200_000})
    with ExitStack() as stack:
        first = upload(stack, s, 120_000, 119_999)
        s.wait_metric(120_000, "stator_body_memory_bytes")
        second = upload(stack, s, 130_000, 100)
        s.wait_metric(120_000 + 100 + 65_536, "stator_body_memory_bytes")
        second.send(b"x" * 129_900)
        assert second.is_quiet(0.3)
        assert s.metric("stator_body_memory_bytes") <= 200_000
        first.send(b"x")
        assert first.read_response().body == b"x" * 120_000
        assert second.read_response().body == b"x" * 130_000


# Clients that leave

def test_client_gone_while_queued(start):
    """Its event is dropped before a handler sees it."""
    s = start("sleep", workers=1)
    with s.connect() as busy:
        busy.send(build_request("POST", "/", b"%d" % patience(1000)))
        s.wait_metric(1, "stator_workers", state="full")
        queued = [s.connect() for _ in range(3)]
        for c in queued:
            c.send(build_request("POST", "/", b"60000"))
        s.wait_metric(4, "stator_events_in_flight")
        for c in queued:
            c.reset()
        s.wait_metric(3, GONE, stage="queued")
        assert busy.read_response().body == b"%d" % patience(1000)
    assert s.post(b"1").body == b"1"
    assert s.metric(GONE, stage="running") == 0
    assert s.metric("stator_events_in_flight") == 0
    assert s.metric("nuclio_processor_handled_events_total", result="failure") == 3


def test_client_gone_while_running(start):
    """The handler is not disturbed; its answer has nobody to go to."""
    s = start("hang", workers=1)
    c = s.connect()
    c.send(build_request("POST", "/", b"hang %d" % patience(1000)))
    s.wait_log("The handler hangs")
    c.reset()
    s.wait_metric(1, GONE, stage="running")
    assert s.metric("stator_workers", state="full") == 1
    assert s.post(b"1").body == b"alive"
    assert s.metric(GONE) == 1
    assert s.metric("stator_late_results_total") == 1
    assert s.metric("stator_events_in_flight") == 0


def test_clients_gone_in_the_middle_of_a_pipeline(start):
    """Answered, running and waiting requests of one connection."""
    s = start("sleep", workers=2)
    c = s.connect()
    c.send(b"".join(build_request("POST", "/", b"%d" % ms) for ms in (0, 300, 0, 300, 50, 50)))
    assert c.read_response().body == b"0"
    c.reset()
    s.wait_metric(0, "stator_events_in_flight")
    s.wait_metric(0, "stator_connections")
    s.wait_metric(2, "stator_workers", state="idle")
    assert s.metric("nuclio_processor_handled_events_total") == 6
    assert s.post(b"1").body == b"1"


def test_half_open_upload_is_dropped(start):
    s = start("echo")
    with s.connect() as c:
        c.send(build_request("POST", headers=[("Content-Length", "10")]) + b"12345")
        c.end_input()
        assert c.is_closed()
    s.wait_metric(0, "stator_connections")
    assert s.metric("nuclio_processor_handled_events_total") == 0


def test_thousand_connections_come_and_go(start):
    """No descriptor, connection or event is left behind."""
    s = start("echo_blocking", workers=2)
    s.get()
    fds = f"/proc/{s.pid}/fd"
    before = len(os.listdir(fds))
    for i in range(20):
        with ExitStack() as stack:
            clients = [stack.enter_context(s.connect()) for _ in range(50)]
            for n, c in enumerate(clients):
                if n % 3 == 0:
                    c.send(build_request("POST", "/", b"%d" % i))
                elif n % 3 == 1:
                    c.send(b"POST / HTTP/1.1\r\nHost")
            for n, c in enumerate(clients):
                if n % 6 == 0:
                    assert c.read_response().body == b"%d" % i
                elif n % 6 == 3:
                    c.reset()
    s.wait_metric(0, "stator_connections")
    s.wait_metric(0, "stator_events_in_flight")
    wait_until(lambda: len(os.listdir(fds)) <= before)
    assert s.live() == 200
