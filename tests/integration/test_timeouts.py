"""Handlers that take too long, workers that don't come back, events that wait too long."""

import time

import pytest
from http_raw import build_request
from stator_proc import STRAYS, Stator, patience, wait_until

TIMED_OUT = (408, b'{"error": "handler timed out"}')
RESTARTS = "stator_worker_restarts_total"
REJECTED = "stator_rejected_total"


def hang(s: Stator, ms: str = "") -> tuple[int, bytes]:
    """One request to a handler that does not come back, or very late."""
    answer = s.post(b"hang" + ms.encode())
    return answer.status, answer.body


# eventTimeout

def test_hanging_handler_is_answered_408(start):
    s = start("hang", env=STRAYS, workers=2, spec={"eventTimeout": "300ms"})
    with s.connect() as c:
        begin = time.monotonic()
        answer = c.ask("POST", "/", b"hang")
        assert 0.25 < time.monotonic() - begin < patience(2)
        assert (answer.status, answer.body) == TIMED_OUT
        assert answer.header("Transfer-Encoding") == "chunked"
        assert answer.header("Content-Type") == "text/plain; charset=utf-8"
        assert c.ask("GET").body == b"alive"  # the connection is as good as before
    assert s.wait_log("stuck past eventTimeout")["worker"] in (0, 1)


def test_408_is_not_early(start):
    s = start("sleep", spec={"eventTimeout": f"{patience(2000):.0f}ms"})
    body = b"%d" % patience(500)
    assert s.post(body).body == body
    assert s.metric(RESTARTS) == 0


def test_timeout_counts_from_the_handlers_begin(start):
    """The wait for a worker is no part of it."""
    s = start("sleep", workers=1, spec={"eventTimeout": f"{patience(1000):.0f}ms"})
    connections = [s.connect() for _ in range(4)]
    body = b"%d" % patience(400)
    for c in connections:
        c.send(build_request("POST", "/", body))
    for c in connections:
        assert c.read_response().body == body
        c.close()


def test_replacement_serves_until_there_is_none_left(start):
    """Each worker may be replaced once over; then /live says that only a restart helps."""
    s = start("hang", env=STRAYS, workers=2, spec={"eventTimeout": "150ms"},
              trigger={"workerAvailabilityTimeoutMilliseconds": 300})
    for _ in range(2):
        assert hang(s) == TIMED_OUT
        assert s.get().body == b"alive"
        assert s.live() == 200
    s.wait_metric(2, "stator_workers", state="stuck")
    s.wait_metric(2, "stator_workers", state="idle")
    assert s.ready() == 200
    assert hang(s) == TIMED_OUT
    assert s.get().body == b"alive"  # one is left
    assert hang(s) == TIMED_OUT
    wait_until(lambda: s.live() == 503)
    assert s.ready() == 503
    assert s.wait_log("not replaced any more")
    assert s.get().status == 503
    answer = s.ask(s.health, "/live")
    assert b"stuck" in answer.body and answer.header("Content-Type").startswith("application/json")
    assert s.metric(RESTARTS, reason="stuck") == 2
    s.wait_metric(4, "stator_workers", state="stuck")
    assert s.stop() < patience(5)  # although four threads hang


def test_late_result_is_counted_and_its_worker_ends(start):
    s = start("hang", env=STRAYS, workers=1, spec={"eventTimeout": "150ms"})
    assert hang(s, "500") == TIMED_OUT
    assert s.metric("stator_late_results_total") == 0
    s.wait_metric(1, "stator_late_results_total")
    s.wait_metric(0, "stator_workers", state="stuck")
    s.wait_metric(1, "stator_workers", state="idle")
    assert s.live() == s.ready() == 200
    assert s.get().body == b"alive"
    assert "st-w0" in s.threads() and len(s.threads()["st-w0"]) == 1


def test_workers_that_return_late_are_made_up_for(start):
    """When all replacements are used up and the stuck ones come back, the pool is whole again."""
    s = start("hang", env=STRAYS, workers=1, spec={"eventTimeout": "150ms"},
              trigger={"workerAvailabilityTimeoutMilliseconds": 100})
    with s.connect() as a, s.connect() as b:
        a.send(build_request("POST", "/", b"hang 900"))
        assert a.read_response().status == 408
        b.send(build_request("POST", "/", b"hang 900"))
        assert b.read_response().status == 408
    wait_until(lambda: s.live() == 503)
    assert s.ready() == 503
    wait_until(lambda: s.live() == 200)
    wait_until(lambda: s.ready() == 200)
    assert s.get().body == b"alive"


def test_client_gone_and_handler_hangs(start):
    """Nobody waits any more, but the worker is found out all the same."""
    s = start("hang", env=STRAYS, workers=1,
              spec={"eventTimeout": f"{patience(1500):.0f}ms"})
    c = s.connect()
    c.send(build_request("POST", "/", b"hang"))
    s.wait_log("The handler hangs")
    c.reset()
    s.wait_metric(1, "stator_client_gone_total", stage="running")
    s.wait_metric(1, RESTARTS, reason="stuck")
    assert s.get().body == b"alive"


def test_timeout_of_a_streaming_handler_cuts_the_stream(start):
    """The status has left already: the client sees the end missing."""
    s = start("stream", env=STRAYS, workers=1, spec={"eventTimeout": "400ms"})
    with s.connect() as c:
        c.send(build_request("GET", "/?forever"))
        begin = time.monotonic()
        assert c.read_head().status == 200
        while c.socket.recv(1 << 20):
            assert time.monotonic() - begin < patience(5)
    wait_until(lambda: s.get("/?1").status == 200)
    assert s.live() == 200


def test_inline_handler_past_its_time_is_logged(start):
    """No 408 is possible on a loop; the log says what to do."""
    s = start("hang_inline", spec={"eventTimeout": "100ms"})
    assert s.post(b"hang 300").body == b"late"
    assert "NONBLOCKING" in s.wait_log("held its loop longer than eventTimeout")["message"]


def test_inline_handler_that_blocks_fails_live(start):
    """/live asks every loop, waits two seconds for a sign, and names the loop in the log."""
    s = start("hang_inline", own={"loops": 2})
    assert s.live() == 200
    with s.connect() as c:
        c.send(build_request("POST", "/", b"hang %d" % (2500 + patience(1500))))
        s.wait_log("The handler hangs")
        begin = time.monotonic()
        answer = s.ask(s.health, "/live")
        assert 1.5 < time.monotonic() - begin < 2 + patience(1)
        assert answer.status == 503 and b"loop" in answer.body
        assert s.wait_log("no sign of life")["loop"] in (0, 1)
        assert c.read_response().body == b"late"
    assert s.live() == 200


# Waiting for a worker

@pytest.mark.parametrize("event_timeout", ["", "30s"])
def test_wait_for_a_worker_ends_in_503(start, event_timeout):
    s = start("sleep", workers=1, spec={"eventTimeout": event_timeout} if event_timeout else {},
              trigger={"workerAvailabilityTimeoutMilliseconds": 200})
    with s.connect() as busy:
        busy.send(build_request("POST", "/", b"900"))
        s.wait_metric(1, "stator_workers", state="full")
        begin = time.monotonic()
        answer = s.post(b"1")
        assert 0.15 < time.monotonic() - begin < patience(0.6)
        assert (answer.status, answer.body) == (503, b"")
        assert answer.header("Content-Length") == "0" and not answer.header("Content-Type")
        assert busy.read_response().body == b"900"
    allocations = "nuclio_processor_worker_allocation_total"
    assert s.metric(allocations, result="error_timeout") == 1
    assert s.metric(allocations, result="success_immediate") == 1
    assert s.metric(REJECTED, reason="no_worker") == 1
    assert s.metric("nuclio_processor_handled_events_total", result="failure") == 1


def test_event_that_waits_gets_the_worker_in_time(start):
    s = start("sleep", workers=1)
    with s.connect() as busy, s.connect() as next_one:
        ms = patience(1000)
        begin = time.monotonic()
        busy.send(build_request("POST", "/", b"%d" % ms))
        s.wait_metric(1, "stator_workers", state="full")
        next_one.send(build_request("POST", "/", b"1"))
        s.wait_metric(1, "stator_queue_events")
        queued = (time.monotonic() - begin) * 1000
        assert next_one.read_response().body == b"1"
        assert busy.read_response().body == b"%d" % ms
    allocations = "nuclio_processor_worker_allocation_total"
    assert s.metric(allocations, result="success_after_wait") == 1
    waited = s.metric("nuclio_processor_worker_allocation_wait_duration_milliseconds_sum")
    assert ms - queued - 50 < waited < ms + patience(5000)
    assert s.metric("stator_queue_wait_seconds_count") == 1


def test_no_wait_at_all(start):
    s = start("sleep", workers=1, trigger={"workerAvailabilityTimeoutMilliseconds": 0})
    with s.connect() as busy:
        busy.send(build_request("POST", "/", b"%d" % patience(1500)))
        s.wait_metric(1, "stator_workers", state="full")
        answer = s.post(b"1")
        assert (answer.status, answer.body) == (503, b"")
        assert s.metric("stator_workers", state="full") == 1  # with the first
        assert busy.read_response().body == b"%d" % patience(1500)
    assert s.post(b"1").body == b"1"


def test_queue_is_bounded(start):
    """One runs, two wait; the next is refused at once."""
    s = start("sleep", workers=1, own={"queue": {"events": 2}})
    connections = [s.connect() for _ in range(3)]
    bodies = [b"%d" % patience(1000), b"1", b"1"]
    for n, (c, body) in enumerate(zip(connections, bodies, strict=True)):
        c.send(build_request("POST", "/", body))
        s.wait_metric(n + 1, "stator_events_in_flight")
    s.wait_metric(2, "stator_queue_events")
    assert s.post(b"1").status == 503
    assert s.metric("stator_queue_events") == 2  # and nobody came on meanwhile
    for c, body in zip(connections, bodies, strict=True):
        assert c.read_response().body == body
        c.close()
    assert s.metric("stator_queue_events") == 0


def test_queue_is_bounded_in_bytes(start):
    s = start("sleep", workers=1, own={"queue": {"bytes": 1000}})
    with s.connect() as busy, s.connect() as waits:
        busy.send(build_request("POST", "/", b"%d" % patience(1500)))
        s.wait_metric(1, "stator_workers", state="full")
        waits.send(build_request("POST", "/", b"1" + b" " * 800))
        s.wait_metric(1, "stator_queue_events")
        assert s.post(b"1" + b" " * 800).status == 503
        assert busy.read_response().status == waits.read_response().status == 200


def test_those_behind_a_hanging_event_don_t_wait_for_ever(start):
    """A quick worker was given several events at once; the first hangs, and there is no
    eventTimeout: the others are answered when their wait is over."""
    s = start("hang", env=STRAYS, workers=1, own={"loops": 1},
              trigger={"workerAvailabilityTimeoutMilliseconds": 400,
                       "workerTerminationTimeout": "100ms"})
    with s.connect() as c:  # shows the worker quick
        for _ in range(20):
            c.send(build_request("GET") * 50)
            for _ in range(50):
                assert c.read_response().body == b"alive"
    connections = [s.connect() for _ in range(8)]
    connections[0].send(build_request("POST", "/", b"hang"))
    for c in connections[1:]:
        c.send(build_request("GET"))
    begin = time.monotonic()
    for c in connections[1:]:
        assert c.read_response().status in (200, 503)
    assert time.monotonic() - begin < patience(2)
    assert s.post(b"x").status == 503
    for c in connections:
        c.close()
