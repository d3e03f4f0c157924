"""Batches for native handlers: several events in one call of handle_batch(), on worker threads, on
the loops, and in processes of their own."""

import json
import re
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from http_raw import Connection, Response, build_request
from stator_proc import STRAYS, Stator, patience, wait_until
from test_crash import NO_CORE, SANITIZERS_ASIDE

RESTARTS = "stator_worker_restarts_total"
DURATION = "nuclio_processor_handled_events_duration_milliseconds"
LONG = "60s"  # no batch waits so long: it is full

# How the handlers run: which one, and spec.stator.
WAYS = {"thread": ("batch", {}), "inline": ("batch_inline", {}),
        "process": ("batch", {"isolation": "process"}),
        "process-nonblocking": ("batch_inline", {"isolation": "process"})}
EACH = {"thread": ("batch_each", {}), "inline": ("batch_each_inline", {}),
        "process": ("batch_each", {"isolation": "process"}),
        "process-nonblocking": ("batch_each_inline", {"isolation": "process"})}
BLOCKING = ["thread", "process"]


@pytest.fixture(name="batches")
def batches_fixture(start: Callable[..., Stator], tmp_path: Path) -> Callable[..., Stator]:
    """batches(way, size, timeout, ...): one worker that takes such batches. What its handler got is
    in the file `out`, see seen()."""
    def batches(way: str, size: int, timeout: str = LONG, ways: dict[str, Any] | None = None,
                spec: dict[str, Any] | None = None, env: dict[str, str] | None = None,
                trigger: dict[str, Any] | None = None, **options: Any) -> Stator:
        handler, own = (ways or WAYS)[way]
        out = str(tmp_path / "out")
        return start(handler, workers=1, own=own, env={"OUT": out} | (env or {}),
                     spec={"env": [{"name": "OUT", "value": out}]} | (spec or {}),
                     trigger={"batch": {"mode": "enable", "batchSize": size, "timeout": timeout},
                              "workerAvailabilityTimeoutMilliseconds": 120_000}
                     | (trigger or {}), **options)
    return batches


def seen(tmp_path: Path) -> list[dict[str, Any]]:
    """What handlers got so far."""
    out = tmp_path / "out"
    lines = out.read_text().splitlines(keepends=True) if out.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def send(stack: ExitStack, s: Stator, body: bytes) -> Connection:
    """A request on a connection of its own, whose answer is still to be read."""
    c = stack.enter_context(s.connect())
    c.send(build_request("POST", "/", body))
    return c


def ask_all(s: Stator, *bodies: bytes) -> list[Response]:
    """The answers to requests that are all out at once, in their order."""
    with ExitStack() as stack:
        return [c.read_response() for c in [send(stack, s, body) for body in bodies]]


def places(answers: list[Response]) -> list[bytes]:
    """What the handler said, sorted: which of a batch arrives first is open."""
    assert {a.status for a in answers} == {200}
    return sorted(a.body for a in answers)


@pytest.mark.parametrize("way", WAYS)
def test_full_batches(batches, way):
    s = batches(way, 4)
    for _ in range(3):
        assert places(ask_all(s, *[b"x"] * 8)) == sorted([b"%d of 4" % i for i in range(4)] * 2)
    assert s.metric(f"{DURATION}_count") == 24
    assert s.metric("nuclio_processor_handled_events_total", result="success") == 24


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_that_is_not_full_waits_for_its_time(batches, way):
    s = batches(way, 100, "200ms")
    for answer in ask_all(s, *[b"x"] * 3):
        assert answer.status == 200 and re.fullmatch(rb"[0-2] of [1-3]", answer.body)


@pytest.mark.parametrize("way", WAYS)
def test_each_event_has_its_result(batches, way):
    s = batches(way, 9)
    for _ in range(2):
        answers = ask_all(s, b"x", b"error", b"retry", b"reject", b"forget", b"early", b"later",
                          b"stream", b"y")
        assert [a.status for a in answers] == [200, 502, 503, 400, 500, 201, 201, 202, 200]
        assert [a.body for a in answers[1:8]] == [b"no good", b"", b"never", b"", b"deferred",
                                                  b"deferred", b"piece"]
        assert answers[2].header("Retry-After") == "2"
    s.wait_metric(0, "stator_events_in_flight")


@pytest.mark.parametrize("way", WAYS)
def test_large_batches(batches, way):
    """More than the rings have places for single events; bodies that no record takes together."""
    s = batches(way, 300)
    assert places(ask_all(s, *[b"x"] * 300)) == sorted(b"%d of 300" % i for i in range(300))
    s.stop()
    s = batches(way, 8)
    answers = ask_all(s, *[b"y" * 300_000] * 8)
    assert {a.status for a in answers} == {200}


@pytest.mark.parametrize("way", EACH)
def test_handler_of_single_events(batches, tmp_path, way):
    """Without handle_batch() it gets them one by one."""
    s = batches(way, 3, ways=EACH)
    assert places(ask_all(s, *[b"x"] * 3)) == [b"alone"] * 3
    answers = ask_all(s, b"early", b"error", b"later")
    assert [(a.status, a.body) for a in answers] == [(201, b"deferred"), (502, b"no good"),
                                                     (201, b"deferred")]
    assert {event["size"] for event in seen(tmp_path)} == {0}
    s.stop()
    s = batches(way, 300, ways=EACH)
    assert places(ask_all(s, *[b"x"] * 300)) == [b"alone"] * 300


@pytest.mark.parametrize("way", BLOCKING)
def test_streams_of_single_events_in_a_batch(batches, way):
    """The first events of a batch may be over, and their place in the ring free, before the last
    ones begin."""
    s = batches(way, 6, ways=EACH)
    for _ in range(20):
        answers = ask_all(s, b"stream", b"x", b"stream", b"x", b"stream", b"x")
        assert [a.body for a in answers] == [b"piece", b"alone"] * 3


@pytest.mark.parametrize("way", WAYS)
def test_client_gone_before_the_batch(batches, tmp_path, way):
    """Whoever waits for a batch and leaves is not in it."""
    s = batches(way, 3)
    with s.connect() as c:
        c.send(build_request("POST", "/", b"gone"))
        s.wait_metric(1, "stator_events_in_flight")
        c.reset()
        s.wait_metric(1, "stator_client_gone_total", stage="queued")
    assert places(ask_all(s, *[b"x"] * 3)) == [b"0 of 3", b"1 of 3", b"2 of 3"]
    assert [event["body"] for event in seen(tmp_path)] == ["x"] * 3


@pytest.mark.parametrize("way", BLOCKING)
def test_wait_is_over_before_the_batch(batches, tmp_path, way):
    """One that found no worker in time is not in the next batch."""
    s = batches(way, 2, "20ms", trigger={
        "workerAvailabilityTimeoutMilliseconds": int(patience(1500))})
    with ExitStack() as stack:
        first = send(stack, s, b"wait")
        wait_until(lambda: seen(tmp_path), 20, "the first batch runs")
        assert s.post(b"too late").status == 503
        (tmp_path / "out.go").touch()
        assert first.read_response().body == b"0 of 1"
    assert s.post(b"wait").body == b"0 of 1"
    assert [event["body"] for event in seen(tmp_path)] == ["wait", "wait"]


@pytest.mark.parametrize("way, reason", [("thread", "stuck"), ("process", "timeout")])
def test_timeout_replaces_the_worker(batches, way, reason):
    """All events of the batch are its victims; the next batch has a new worker."""
    s = batches(way, 2, spec={"eventTimeout": f"{patience(1000):.0f}ms"}, env=STRAYS)
    assert 408 in {a.status for a in ask_all(s, b"hang", b"x")}
    s.wait_metric(1, RESTARTS, reason=reason)
    s.wait_metric(1, "stator_workers", state="idle")
    assert places(ask_all(s, b"x", b"x")) == [b"0 of 2", b"1 of 2"]


def test_events_that_have_not_begun_go_to_the_next_worker(batches, tmp_path):
    """Without handle_batch() an event that hangs takes none with it."""
    s = batches("thread", 3, "200ms", ways=EACH, env=STRAYS,
                spec={"eventTimeout": f"{patience(1000):.0f}ms"})
    answers = ask_all(s, b"hang", b"x", b"y")
    assert [a.status for a in answers] == [408, 200, 200]
    assert sorted(event["body"] for event in seen(tmp_path)) == ["hang", "x", "y"]


def test_duration_is_that_of_the_batch(batches):
    """Not that of the batch for each of its events."""
    s = batches("thread", 4)
    begin = time.monotonic()
    assert places(ask_all(s, *[b"sleep"] * 4)) == [b"%d of 4" % i for i in range(4)]
    took = 1000 * (time.monotonic() - begin)
    assert s.metric(f"{DURATION}_count") == 4
    assert 199 <= s.metric(f"{DURATION}_sum") <= took


@pytest.mark.parametrize("way", ["thread", "inline"])
def test_crash_report(batches, way):
    s = batches(way, 2, prefix=NO_CORE, env=SANITIZERS_ASIDE)
    with ExitStack() as stack:
        for c in [send(stack, s, body) for body in (b"crash", b"x")]:
            assert c.is_closed()
    assert s.wait() == -signal.SIGABRT
    assert re.search(r", event [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}, the first of a batch of 2"
                     "\n", s.stderr())


def test_crash_of_a_process(batches):
    s = batches("process", 3)
    assert {a.status for a in ask_all(s, b"crash", b"x", b"x")} == {500}
    s.wait_metric(1, RESTARTS, reason="crash")
    assert places(ask_all(s, *[b"x"] * 3)) == [b"0 of 3", b"1 of 3", b"2 of 3"]


@pytest.mark.parametrize("way", WAYS)
def test_stop_while_a_batch_is_made(batches, way):
    """What waits for others is answered before the end."""
    s = batches(way, 4, f"{patience(2):g}s",
                trigger={"workerTerminationTimeout": f"{patience(12):g}s"})
    with ExitStack() as stack:
        connections = [send(stack, s, b"x") for _ in range(3)]
        s.wait_metric(3, "stator_events_in_flight")
        s.stop()
        assert places([c.read_response() for c in connections]) == [b"%d of 3" % i for i in range(3)]
