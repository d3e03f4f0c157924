"""Python workers that crash, hang, leak, exit, fork: what happens to them never reaches the
processor, and each request gets one answer."""

import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from http_raw import Closed, build_request
from kill_load import HANDLER, KillLoad, children
from stator_proc import SANITIZER, Stator, patience, wait_until

RESTARTS = "stator_worker_restarts_total"
KILLS = 10 if SANITIZER else 30
TIMED_OUT = (408, b'{"error": "handler timed out"}')

BAD = """
    import os, signal, subprocess, sys, threading, time

    LEAK = []

    def handler(context, event):
        what = event.body.decode()
        if what == "exit0":
            os._exit(0)
        if what == "exit3":
            os._exit(3)
        if what == "SystemExit":
            raise SystemExit(4)
        if what == "raise":
            raise ValueError("oh no")
        if what == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "abort":
            os.abort()
        if what == "hang":
            time.sleep(1000)
        if what == "spin":
            while True:
                pass
        if what == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(1000)
        if what == "grandchild":
            child = subprocess.Popen(["sleep", "1000"])
            with open("child.pid", "w") as f:
                f.write(str(child.pid))
            time.sleep(1000)
        if what == "close":
            os.closerange(0, 1024)
            return "closed"
        if what == "leak":
            LEAK.append(b"x" * (60 << 20))
            return str(os.getpid())
        if what == "fork":
            if os.fork() == 0:
                return "of the child"
            os.wait()
        if what == "forks":
            for _ in range(20):
                if os.fork() == 0:
                    os._exit(0)
            for _ in range(20):
                os.wait()
        if what.startswith("print"):
            line = "p" * 3999 + "\\n"
            for _ in range(int(what[5:]) * 250):
                sys.stdout.write(line)
        return str(os.getpid())
"""

SLOW = """
    import os, time

    def handler(context, event):
        time.sleep(float(event.body or b"0.002"))
        return str(os.getpid())
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Clients(threading.Thread):
    """Asks again and again on a connection of its own; counts the answers."""

    def __init__(self, s: Stator, body: bytes = b"", depth: int = 1):
        super().__init__()
        self.s, self.body, self.depth = s, body, depth
        self.answers: Counter[int] = Counter()
        self.texts: list[bytes] = []
        self.sent = self.lost = 0
        self.ending = False
        self.error: BaseException | None = None
        self.closed = False

    def run(self) -> None:
        try:
            with self.s.connect() as c:
                while not self.ending:
                    c.send(build_request("POST", "/", self.body) * self.depth)
                    self.sent += self.depth
                    for _ in range(self.depth):
                        answer = c.read_response()
                        self.answers[answer.status] += 1
                        if answer.status != 200:
                            self.texts.append(answer.body)
                        if answer.closes:
                            self.closed = True
                            return
        except BaseException as exc:
            self.error = exc

    def finish(self) -> None:
        self.ending = True
        self.join(patience(30))
        assert not self.is_alive(), "an answer is missing"


# Killed

@pytest.mark.parametrize("worker, depth", [("native", 1), ("native", 4), ("portable", 1)],
                         indirect=["worker"])
def test_kill_9_under_load(python, depth):
    """Each request gets one answer; only those that a killed worker had begun are lost. All workers
    serve again soon, also after those that were killed while they started."""
    s = python(HANDLER, workers=4)
    load = KillLoad(s, 4, depth=depth)
    load.load_until_whole()
    for _ in range(KILLS // 2):
        load.kill_one()
        load.load(random.uniform(0.02, 0.1))
        load.kill_one()
        load.load_until_whole()
    took = sorted(kill.back for kill in load.kills[1::2])
    assert took[len(took) // 4] < patience(1), took  # the others as the machine is busy
    load.finish()
    assert load.answers[500] <= len(load.kills) == KILLS
    assert load.answers[200] > KILLS
    s.wait_metric(KILLS, RESTARTS)
    assert s.metric(RESTARTS, reason="crash") == KILLS
    s.wait_metric(4, "stator_workers", state="idle")
    assert s.get().status == 200
    assert s.ready() == s.live() == 200


def test_killed_while_idle(python):
    s = python(SLOW, workers=1)
    pid = int(s.get().body)
    os.kill(pid, signal.SIGKILL)
    answer = s.get()
    assert answer.status == 200 and int(answer.body) != pid


# Ends by itself

@pytest.mark.parametrize("what, reason, how", [
    (b"exit0", "exit", b"exited with status 0"),
    (b"exit3", "crash", b"exited with status 3"),
    (b"segv", "crash", b"was killed by signal 11 (SIGSEGV)"),
    (b"abort", "crash", b"was killed by signal 6 (SIGABRT)"),
])
def test_an_end_costs_one_event(python, what, reason, how):
    s = python(BAD, workers=1)
    with s.connect() as c:
        pid = c.ask("POST", "/", b"ok").body
        answer = c.ask("POST", "/", what)
        assert (answer.status, answer.body) == (
            500, b"The worker process " + how + b" (while it handled this event)")
        assert answer.header("Content-Type").startswith("text/plain")
        answer = c.ask("POST", "/", b"ok")
        assert answer.status == 200 and answer.body != pid
    assert s.metric(RESTARTS) == s.metric(RESTARTS, reason=reason) == 1


@pytest.mark.parametrize("what, text", [(b"SystemExit", b"SystemExit: 4"),
                                        (b"raise", b"ValueError: oh no")])
def test_exceptions_do_not_end_the_worker(python, what, text):
    s = python(BAD, workers=1)
    pid = s.post(b"ok").body
    answer = s.post(what)
    assert answer.status == 500 and text in answer.body
    assert s.post(b"ok").body == pid


# Hangs

@pytest.mark.parametrize("what", [b"hang", b"spin", b"deaf"])
def test_a_hanging_handler_is_ended(python, what):
    s = python(BAD, workers=1, spec={"eventTimeout": "400ms"})
    pid = int(s.post(b"ok").body)
    with s.connect() as c:
        begin = time.monotonic()
        answer = c.ask("POST", "/", what)
        assert (answer.status, answer.body) == TIMED_OUT
        assert 0.3 < time.monotonic() - begin < patience(2)
        answer = c.ask("POST", "/", b"ok")  # waits for the next worker
        assert answer.status == 200 and int(answer.body) != pid
    assert not is_alive(pid)
    assert s.metric(RESTARTS) == s.metric(RESTARTS, reason="timeout") == 1
    assert s.live() == 200


def test_grandchildren_go_with_their_worker(python, tmp_path):
    s = python(BAD, workers=1, spec={"eventTimeout": "700ms"})
    s.post(b"ok")
    assert s.post(b"grandchild").status == 408
    child = int((tmp_path / "child.pid").read_text())
    assert s.post(b"ok").status == 200
    wait_until(lambda: not is_alive(child))


def test_others_go_on_while_one_hangs(python):
    s = python(BAD, workers=2, spec={"eventTimeout": "1500ms"})
    with s.connect() as c:
        c.send(build_request("POST", "/", b"hang"))
        for _ in range(50):
            assert s.post(b"ok").status == 200
        assert c.read_response().status == 408
    s.wait_metric(1, RESTARTS)


# Abuse

def test_all_descriptors_closed(python):
    s = python(BAD, workers=1, spec={"eventTimeout": "20s"})
    s.post(b"ok")
    assert s.post(b"close").status in (200, 500)
    assert s.post(b"ok").status == 200
    s.wait_metric(1, RESTARTS)
    assert s.metric(RESTARTS, reason="timeout") == 0


def test_a_hundred_megabytes_of_output(python, worker):
    """Printed lines are logged, or dropped and counted; others are served meanwhile."""
    count = 5 if SANITIZER or worker == "portable" else 100
    s = python(BAD, workers=2)
    before = s.memory()
    with s.connect() as c:
        c.send(build_request("POST", "/", b"print%d" % count))
        for _ in range(20):
            assert s.post(b"ok").status == 200
        assert c.read_response().status == 200
    assert s.memory() - before < 32 << 20
    lines = s.stdout().count('"stream":"stdout"')
    assert 0 < lines <= count * 250 and s.metric(RESTARTS) == 0


def test_a_leaking_worker_is_replaced(python):
    """After the event that took it over its limit, which is answered."""
    s = python(BAD, workers=1, own={"workerMemory": "150Mi"})
    pids = set()
    for _ in range(8):
        answer = s.post(b"leak")
        assert answer.status == 200
        pids.add(answer.body)
        time.sleep(0.11)  # its memory is looked at ten times a second
    s.wait_metric(0, "stator_events_in_flight")
    assert len(pids) > 2
    assert s.metric(RESTARTS) == s.metric(RESTARTS, reason="memory") >= 2
    assert "workerMemory" in s.wait_log("A worker has ended")["error"]


def test_recycled_without_a_lost_request(python):
    s = python(SLOW, workers=2, own={"maxRequests": 20})
    clients = [Clients(s, b"0") for _ in range(4)]
    for c in clients:
        c.start()
    wait_until(lambda: s.metric(RESTARTS, reason="recycled") >= 10, 30)
    for c in clients:
        c.finish()
        assert c.error is None and set(c.answers) == {200}
        assert c.answers[200] == c.sent
    found = s.metrics()
    assert found.sum(RESTARTS) == found.sum(RESTARTS, reason="recycled")
    assert not [r for r in s.log() if r["level"] == "error"]


@pytest.mark.parametrize("what", [b"fork", b"forks"])
def test_forked_children_answer_nothing(python, what):
    s = python(BAD, workers=1)
    with s.connect() as c:
        pid = c.ask("POST", "/", b"ok").body
        for _ in range(3):
            answer = c.ask("POST", "/", what)
            assert (answer.status, answer.body) == (200, pid)
        assert c.ask("POST", "/", b"ok").body == pid
    assert s.metric(RESTARTS) == 0


# Crash loops

CRASH_LATER = """
    import os
    if os.path.exists("broken"):
        raise RuntimeError("no database")

    def handler(context, event):
        if event.body == b"exit":
            os._exit(1)
        return "ok"
"""


def test_a_crash_loop_is_seen_and_ends(python, tmp_path):
    """A worker that can't start again is tried with growing delays; the rest serves."""
    s = python(CRASH_LATER, workers=2)
    (tmp_path / "broken").touch()
    assert s.post(b"exit").status == 500
    s.wait_metric(1, "stator_workers", state="restarting", seconds=20)
    assert s.get().body == b"ok"
    assert s.ready() == 200
    record = s.wait_log("A worker did not start")
    assert "handler.py:4: RuntimeError: no database" in record["error"]
    wait_until(lambda: len(s.log("A worker did not start")) >= 3, 20)
    status = s.status()
    assert status["degraded"] and any("failed to start" in r for r in status["reasons"])
    worker = next(w for w in status["pools"][0]["workers"] if w["failures"] > 0)
    assert worker["failures"] >= 3 and worker["restarts"] == 1 and "pid" not in worker
    assert s.metric(RESTARTS, reason="start") >= 3 and s.metric(RESTARTS, reason="crash") == 1
    assert "RuntimeError: no database" in worker["error"]
    (tmp_path / "broken").unlink()
    s.wait_metric(2, "stator_workers", state="idle", seconds=40)
    status = s.status()
    assert not status["degraded"]
    assert all(w["pid"] in children(s.pid) for w in status["pools"][0]["workers"])


def test_requests_wait_while_the_only_worker_can_not_start(python, tmp_path):
    s = python(CRASH_LATER, workers=1, trigger={"workerAvailabilityTimeoutMilliseconds": 500})
    (tmp_path / "broken").touch()
    assert s.post(b"exit").status == 500
    wait_until(lambda: s.ready() == 503)
    assert s.live() == 200
    assert s.get().status == 503
    (tmp_path / "broken").unlink()
    wait_until(lambda: s.ready() == 200, 30)
    assert s.get().body == b"ok"


# The end of the processor

def test_idle_processor_ends_at_once(python):
    s = python(SLOW, workers=4)
    pids = children(s.pid)
    assert len(pids) == 4
    assert s.stop() < patience(1)
    assert not any(map(is_alive, pids))


def test_sigterm_under_load_loses_nothing(python):
    s = python(SLOW, workers=2)
    clients = [Clients(s, b"0.01", depth) for depth in (1, 1, 1, 4)]
    for c in clients:
        c.start()
    wait_until(lambda: all(c.answers[200] > 5 for c in clients))
    took = s.stop()
    assert took < patience(4)
    for c in clients:
        c.finish()
        assert set(c.answers) == {200}, (c.answers, c.texts[:3])
        if not c.closed:  # it asked again behind the last answer: nothing of that arrived
            assert isinstance(c.error, (Closed, ConnectionError)), c.error
        assert sum(c.answers.values()) >= c.sent - c.depth


def test_event_that_runs_at_sigterm_is_answered(python):
    s = python(SLOW, workers=1)
    with s.connect() as running, s.connect() as waiting:
        running.send(build_request("POST", "/", b"0.5"))
        s.wait_metric(1, "stator_events_in_flight")
        waiting.send(build_request("POST", "/", b"0.1"))
        s.wait_metric(2, "stator_events_in_flight")
        s.signal()
        assert running.read_response().status == 200
        assert waiting.read_response().status == 200
    assert s.wait() == 0


def test_a_hanging_handler_does_not_keep_the_processor(python):
    s = python(BAD, workers=1, trigger={"workerTerminationTimeout": "500ms"})
    pid = int(s.post(b"ok").body)
    with s.connect() as c:
        c.send(build_request("POST", "/", b"deaf"))
        s.wait_metric(1, "stator_events_in_flight")
        time.sleep(0.1)
        assert s.stop() < patience(5)
    wait_until(lambda: not is_alive(pid))


def test_workers_die_with_the_processor(python, tmp_path):
    s = python(BAD, workers=2)
    pids = children(s.pid)
    assert len(pids) == 2
    with s.connect() as c:
        c.send(build_request("POST", "/", b"grandchild"))
        wait_until(lambda: (tmp_path / "child.pid").exists())
        s.popen.kill()
        s.popen.wait()
    for pid in pids:
        wait_until(lambda pid=pid: not is_alive(pid))
