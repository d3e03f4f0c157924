"""Large bodies both ways, streamed replies, clients that are slow or leave, many events at once."""

import hashlib
import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from http_raw import build_request
from stator_proc import SANITIZER, Stator, patience, wait_until

MIB = 1 << 20
COUNT = 8 if SANITIZER else 32

BODIES = """
    import hashlib, os

    def handler(context, event):
        if event.path == "/hash":
            return hashlib.sha256(event.body).hexdigest()
        if event.path == "/make":
            return b"m" * int(event.body)
        if event.path == "/text":
            return "\\u00e9" * int(event.body)
        return event.body
"""


def pattern(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# Bodies

@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 100_000, 1 * MIB, 10 * MIB])
def test_bodies_both_ways(python, size):
    s = python(BODIES, attributes={"maxRequestBodySize": "16Mi"}, workers=1)
    body = pattern(size)
    with s.connect() as c:
        for _ in range(2):
            answer = c.ask("POST", "/", body)
            assert answer.status == 200 and answer.body == body
        assert c.ask("POST", "/hash", body).body == hashlib.sha256(body).hexdigest().encode()
        answer = c.ask("POST", "/text", b"%d" % size)
        assert answer.body == "é".encode() * size
    s.wait_metric(0, "stator_body_memory_bytes")


def test_body_over_the_limit(python):
    s = python(BODIES, attributes={"maxRequestBodySize": "1Mi"})
    assert s.post(b"x" * MIB).status == 200
    assert s.post(b"x" * (MIB + 1)).status == 413
    assert s.post(b"x").body == b"x"


def test_reply_that_is_larger_than_the_pool(python):
    """What finds no room in a pool or record goes in pieces, without a length."""
    s = python(BODIES, own={"bodyMemory": "8Mi"})
    answer = s.post(b"%d" % (20 * MIB), "/make")
    assert answer.status == 200 and answer.body == b"m" * (20 * MIB)
    assert s.post(b"x").body == b"x"


@pytest.mark.parametrize("concurrency", [1, 8])
def test_many_large_bodies_at_once(python, concurrency):
    """More than the pool and the rings hold: all come through, each its own."""
    code = BODIES if concurrency == 1 else BODIES.replace("def handler", "async def handler")
    s = python(code, workers=2, attributes={"maxRequestBodySize": "4Mi"},
               own={"bodyMemory": "64Mi"}, trigger={"maxConcurrency": concurrency})
    bodies = [pattern(random.Random(n).randrange(MIB // 2, 2 * MIB), n) for n in range(COUNT)]
    connections = [s.connect() for _ in bodies]

    def send(c, body):
        c.send(build_request("POST", "/", body))

    senders = [threading.Thread(target=send, args=pair) for pair in zip(connections, bodies)]
    for t in senders:
        t.start()
    for c, body in zip(connections, bodies):
        answer = c.read_response()
        assert answer.status == 200 and answer.body == body
        c.close()
    for t in senders:
        t.join()
    s.wait_metric(0, "stator_body_memory_bytes")
    assert s.metric("stator_worker_restarts_total") == 0


def test_worker_killed_with_large_bodies(python):
    """What they took is given back."""
    code = BODIES.replace("return event.body", "os.kill(os.getpid(), 9)")
    s = python(code, attributes={"maxRequestBodySize": "4Mi"})
    for _ in range(3):
        assert s.post(pattern(2 * MIB)).status == 500
    s.wait_metric(0, "stator_body_memory_bytes")
    assert s.post(b"x", "/hash").status == 200


# Streams

STREAMS = """
    import asyncio, time

    STATE = {"pieces": 0, "closed": 0}

    def plain(n, size, pause):
        try:
            for i in range(n):
                STATE["pieces"] += 1
                yield b"%d:" % i + b"p" * size
                time.sleep(pause)
        finally:
            STATE["closed"] += 1

    async def later(n, size, pause):
        try:
            for i in range(n):
                STATE["pieces"] += 1
                yield b"%d:" % i + b"p" * size
                await asyncio.sleep(pause)
        finally:
            STATE["closed"] += 1

    def broken():
        yield "one"
        raise RuntimeError("in the middle")

    def broken_at_once():
        raise RuntimeError("before the first")
        yield

    def answer(context, event):
        if event.path == "/state":
            return STATE
        if event.path == "/broken":
            return broken()
        if event.path == "/at-once":
            return broken_at_once()
        make = later if event.fields.get("async") else plain
        body = make(int(event.fields["n"]), int(event.fields["size"]),
                    float(event.fields.get("pause", 0)))
        if event.path == "/sse":
            return context.Response(body=body, content_type="text/event-stream", status_code=203,
                                    headers={"X-Own": "1"})
        return body

    HANDLER
"""
HANDLERS = {"plain": STREAMS.replace("HANDLER", "handler = answer"),
            "async": STREAMS.replace("HANDLER", """
    async def handler(context, event):
        return answer(context, event)
""")}


@pytest.fixture(name="streaming", params=["plain", "async"])
def streaming_fixture(request, python):
    """A function that streams, from plain and asynchronous handlers; more: "&async=1" for
    asynchronous generators in the latter."""
    s = python(HANDLERS[request.param], workers=1,
               trigger={"maxConcurrency": 4 if request.param == "async" else 1})
    s.more = "&async=1" if request.param == "async" else ""
    return s


def state(s: Stator) -> dict:
    return json.loads(s.get("/state").body)


def test_streamed_reply(streaming):
    s = streaming
    with s.connect() as c:
        answer = c.ask("GET", "/?n=5&size=10" + s.more)
        assert answer.status == 200 and answer.header("Transfer-Encoding") == "chunked"
        assert answer.header("Content-Type") == "text/plain"
        assert answer.body == b"".join(b"%d:" % i + b"p" * 10 for i in range(5))
        answer = c.ask("GET", "/sse?n=2&size=1" + s.more)
        assert (answer.status, answer.header("Content-Type"), answer.header("X-Own")) == (
            203, "text/event-stream", "1")
        answer = c.ask("GET", "/?n=0&size=1" + s.more)
        assert (answer.status, answer.body) == (200, b"")
        answer = c.ask("GET", "/at-once")
        assert answer.status == 500 and b"before the first" in answer.body
        answer = c.ask("GET", "/?n=40&size=100000" + s.more)
        assert answer.body == b"".join(b"%d:" % i + b"p" * 100000 for i in range(40))


def test_pieces_larger_than_what_may_be_under_way(streaming):
    """Each piece leaves in parts, as many bytes as there is room for."""
    s = streaming
    answer = s.get("/?n=3&size=3000000" + s.more)
    assert answer.body == b"".join(b"%d:" % i + b"p" * 3000000 for i in range(3))


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_more_under_way_than_a_ring_holds(python, kind):
    """The worker waits for room, and overlooks no other word of the processor meanwhile."""
    s = python(HANDLERS[kind], workers=1, own={"ringBytes": "64Ki"},
               trigger={"maxConcurrency": 4 if kind == "async" else 1})
    path = "/?n=3&size=1000000" + ("&async=1" if kind == "async" else "")
    wanted = b"".join(b"%d:" % i + b"p" * 1000000 for i in range(3))
    for _ in range(COUNT):
        assert s.get(path).body == wanted
    with ThreadPoolExecutor(4) as clients:
        for answer in clients.map(lambda _: s.get(path), range(COUNT)):
            assert answer.body == wanted


def test_pieces_come_when_they_are_made(streaming):
    s = streaming
    with s.connect() as c:
        pause = patience(1)
        begin = time.monotonic()
        c.send(build_request("GET", f"/?n=3&size=1&pause={pause}" + s.more))
        assert c.read_head().status == 200
        c.read_until(b"0:p")
        first = time.monotonic() - begin
        c.read_until(b"2:p")
        assert first < pause and time.monotonic() - begin >= 2 * pause


def test_stream_that_breaks_is_cut(streaming):
    s = streaming
    with s.connect() as c:
        c.send(build_request("GET", "/broken"))
        assert c.read_head().status == 200
        data = c.read_to_end()
        assert b"one" in data and not data.endswith(b"0\r\n\r\n")
    assert s.get("/?n=1&size=1" + s.more).status == 200
    assert s.metric("stator_worker_restarts_total") == 0


def test_slow_reader_holds_the_generator(streaming):
    """200 MB in all, of which only what fits into buffers is made."""
    s = streaming
    s.get("/?n=1&size=1" + s.more)
    before = s.memory()
    with s.connect(rcvbuf=65536) as c:
        c.send(build_request("GET", "/?n=4000&size=50000" + s.more))
        assert c.read_head().status == 200
        time.sleep(1)
        assert s.memory() - before < 24 * MIB
        worker = s.status()["pools"][0]["workers"][0]["pid"]
        rss = int(Path(f"/proc/{worker}/statm").read_text().split()[1]) * 4096
        assert rss < 100 * MIB
        c.reset()
    s.wait_metric(0, "stator_events_in_flight")
    wait_until(lambda: state(s)["closed"] == 2)
    assert state(s)["pieces"] < 2000


def test_client_that_leaves_a_stream(streaming):
    """The generator is closed; the worker serves on."""
    s = streaming
    for n in range(3):
        with s.connect() as c:
            c.send(build_request("GET", "/?n=100000&size=1000&pause=0.001" + s.more))
            assert c.read_head().status == 200
            c.read_until(b"3:p")
            c.reset()
        wait_until(lambda n=n: state(s)["closed"] == n + 1)
    assert s.metric("stator_worker_restarts_total") == 0
    s.wait_metric(0, "stator_events_in_flight")


def test_client_that_leaves_before_its_reply(python):
    s = python("""
        import time

        def handler(context, event):
            time.sleep(float(event.body))
            return b"x" * 3000000
        """, workers=1)
    for _ in range(3):
        c = s.connect()
        c.send(build_request("POST", "/", b"0.2"))
        s.wait_metric(1, "stator_events_in_flight")
        c.reset()
    assert s.post(b"0").status == 200
    s.wait_metric(0, "stator_events_in_flight")
    s.wait_metric(0, "stator_body_memory_bytes")
    assert s.metric("stator_worker_restarts_total") == 0


def test_worker_killed_in_the_middle_of_a_stream(streaming):
    s = streaming
    with s.connect() as c:
        c.send(build_request("GET", "/?n=100000&size=100&pause=0.001" + s.more))
        assert c.read_head().status == 200
        c.read_until(b"3:p")
        worker = s.status()["pools"][0]["workers"][0]["pid"]
        os.kill(worker, 9)
        assert not c.read_to_end().endswith(b"0\r\n\r\n")
    assert s.get("/?n=1&size=1" + s.more).status == 200


def test_streams_at_once_on_one_async_worker(python):
    s = python(HANDLERS["async"], workers=1, trigger={"maxConcurrency": 16})
    connections = [s.connect() for _ in range(16)]
    begin = time.monotonic()
    for c in connections:
        c.send(build_request("GET", "/?n=5&size=20000&pause=0.1&async=1"))
    for c in connections:
        assert len(c.read_response().body) == 5 * 20002
        c.close()
    assert time.monotonic() - begin < patience(4)  # one after another: 8 s
