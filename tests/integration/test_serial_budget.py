"""Budgets of the processor: instructions, throughput, idle footprint, start-up, many connections.

The figures of a fast machine are goals of tests/bench; here a gate has slack, so that it finds a
regression and not a busy machine. Instruction counts need none: callgrind repeats them.
"""

import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import cases  # noqa: E402
import procs  # noqa: E402
import report  # noqa: E402
import subject  # noqa: E402

SANITIZER = os.environ.get("STATOR_SANITIZER", "")
SLACK = 5           # for what a busy machine stretches
GIVE_UP = 60        # seconds
KIB = 1024
CORES = (sorted(os.sched_getaffinity(0)) * 2)[:2]

needs_plain_build = pytest.mark.skipif(
    SANITIZER != "", reason=f"the budget is for a plain build, this one has {SANITIZER}")


@contextlib.contextmanager
def limit_http(directory):
    """The limit server for a while; gives its port."""
    port = procs.free_port()
    server = procs.Process([str(subject.OUT / "limit_http"), str(port)], CORES[0],
                           directory / "limit.log")
    try:
        server.wait_port(port)
        yield port
    finally:
        server.stop()


@needs_plain_build
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.skipif(report.build_type() == "Debug", reason="the budget is for optimised code")
@pytest.mark.parametrize("head, depth, budget", [
    ("", 1, 3000), ("", 16, 1900),                          # repeated
    ("-V path", 1, 3000), ("-V path", 16, 1900),            # another target each time
    ("-V header", 1, 4050), ("-V header", 16, 2900),        # one more header, another value
])
def test_instructions_of_a_get(head, depth, budget):
    """User instructions a request, start and stop subtracted."""
    done = subprocess.run(
        [BENCH / "instr.sh", "-t", "callgrind", "-l", f"-c 1 -D {depth} -e 13 {head}"],
        capture_output=True, text=True, timeout=GIVE_UP * 2, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    print(result)
    assert result["instructions_per_request"] <= budget


def rate_of(name, directory, port):
    """Requests a second of a case of tests/bench, all of them answered well."""
    for seconds in (0.3, 1):
        result = cases.run_checked(name, directory, port, seconds, CORES[1])
    return result["req_s"]


# Cases of tests/bench, and the least part of the limit that is acceptable on a quiet machine.
@pytest.mark.parametrize("name, goal", [("http-get", 0.85), ("http-post-1k", 0.82),
                                        ("http-pipelined", 0.35)])
def test_throughput(tmp_path, name, goal):
    """Every answer is right under load, and the rate is no fraction of what it was."""
    with subject.stator(tmp_path, core=CORES[0]) as server:
        rate = rate_of(name, tmp_path, server.port)
    with limit_http(tmp_path) as port:
        limit = rate_of(name, tmp_path, port)
    print(f"{name}: {rate:.0f}/s, {rate / limit:.2f} of the limit")
    if not SANITIZER:
        assert rate >= limit * goal / SLACK


@needs_plain_build
def test_start_time(tmp_path):
    """From exec to the first 200 of /ready, median of 5 starts."""
    times = []
    for _ in range(5):
        with subject.stator(tmp_path) as server:
            times.append(server.ready_after)
    print([f"{t * 1000:.1f} ms" for t in times])
    assert statistics.median(times) < 0.050 * SLACK


@needs_plain_build
def test_idle_memory(tmp_path):
    """What one idle function costs a node."""
    with subject.stator(tmp_path) as server:
        time.sleep(0.5)
        memory = server.memory()
    print({key: f"{memory[key] // KIB} KiB" for key in ("VmRSS", "RssAnon")})
    assert memory["VmRSS"] < 10 * KIB * KIB
    assert memory["RssAnon"] < 4 * KIB * KIB


@pytest.mark.skipif(SANITIZER == "tsan", reason="ThreadSanitizer has a thread that wakes by itself")
def test_idle_wake_ups(tmp_path):
    """An idle processor sleeps: no periodic work."""
    with subject.stator(tmp_path) as server:
        time.sleep(1)
        before = server.wake_ups()
        time.sleep(3)
        count = server.wake_ups() - before
    print(f"{count} wake-ups in 3 s")
    assert count <= 3


@contextlib.contextmanager
def idle_connections(port, count, log):
    """Opens so many connections from another process. Gives a function that has one request
    answered on each and returns how many were, and the first fault."""
    with open(log, "w", encoding="utf-8") as errors, \
            subprocess.Popen([sys.executable, BENCH / "idle_conns.py", str(port), str(count)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                             text=True) as client:

        def request_each():
            client.stdin.write("go\n")
            client.stdin.flush()
            result = json.loads(client.stdout.readline())
            return result["answered"], result["fault"]

        try:
            opened = client.stdout.readline()
            assert opened and json.loads(opened)["open"] == count, Path(log).read_text()
            yield request_each
        finally:
            client.stdin.close()
            try:
                client.wait(GIVE_UP)
            except subprocess.TimeoutExpired:
                client.kill()


def test_many_idle_connections(tmp_path):
    """10,000 connections: little memory each, and all of them still served."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = min(10000, hard - 200) if hard != resource.RLIM_INFINITY else 10000
    assert count >= 5000, f"the hard limit of open files is {hard}: too low for this test"
    if count < 10000:
        print(f"only {count} connections: the hard limit of open files is {hard}")
    with subject.stator(tmp_path) as server:
        time.sleep(0.5)     # the connection that asked /ready is gone
        before, files = server.memory()["VmRSS"], server.descriptors()
        with idle_connections(server.port, count, tmp_path / "client.log") as request_each:
            end = time.monotonic() + GIVE_UP
            while server.descriptors() < files + count and time.monotonic() < end:
                time.sleep(0.05)
            assert server.descriptors() >= files + count, "not all were accepted"
            growth = (server.memory()["VmRSS"] - before) / count
            assert request_each() == (count, None)
            used = (server.memory()["VmRSS"] - before) / count
        print(f"{count} connections: {growth:.0f} bytes each, {used:.0f} after a request")
        if not SANITIZER:
            assert growth < 4 * KIB
