"""What handlers return, as records: the extension with a peer that is the processor's side."""

import struct
import time
from pathlib import Path

import pytest
import ring_peer as wire


@pytest.mark.parametrize(("code", "status", "kind", "body"), [
    ("'text'", 200, "text/plain", b"text"),
    ("'\\u00e4\\u20ac'", 200, "text/plain", "\u00e4\u20ac".encode()),
    ("b'\\x00\\xff'", 200, "text/plain", b"\x00\xff"),
    ("''", 200, "text/plain", b""),
    ("None", 200, "text/plain", b"None"),
    ("7", 200, "text/plain", b"7"),
    ("2.5", 200, "text/plain", b"2.5"),
    ("True", 200, "text/plain", b"True"),
    ("{'a': [1, None]}", 200, "application/json", b'{"a": [1, null]}'),
    ("(201, 'made')", 201, "text/plain", b"made"),
    ("(42, 'x')", 200, "text/plain", b"mapped (42, 'x')"),
    ("'\\ud800'", 200, "text/plain", b"mapped '\\ud800'"),
    ("{1, 1}", 200, "text/plain", b"mapped {1}"),
    ("1 / 0", 500, "text/plain", b"ZeroDivisionError: division by zero"),
    ("exit(3)", 500, "text/plain", b"SystemExit: 3"),
    ("{1: object()}", 500, "text/plain",
     b"TypeError: Object of type object is not JSON serializable"),
    ("S(status=404, type='a/b', headers={'X': 'y'}, body='none')", 404, "a/b", b"none"),
])
def test_result(worker, code: str, status: int, kind: str, body: bytes) -> None:
    w = worker(f"""
        from types import SimpleNamespace as S
        def handler(context, event):
            return {code}
        """)
    w.write(wire.event(1), wire.event(2))
    for seq in (1, 2):
        record = w.next()
        assert (record.kind, record.seq, record.status) == (wire.RESULT, seq, status)
        assert (record.content_type, record.body) == (kind, body)
        assert record.outcome == (1 if status == 500 else 0)


def test_headers_have_no_line_ends(worker) -> None:
    w = worker(r"""
        from types import SimpleNamespace as S
        def handler(context, event):
            return S(status=200, type="a/b", headers=[(b"A", "b\r\nC: d"), ("E", b"\0")], body=b"")
        """)
    w.write(wire.event(1))
    assert w.next().headers == [(b"A", b"b  C: d"), (b"E", b" ")]


def test_long_bodies_lie_in_the_pool(worker) -> None:
    w = worker("""
        def handler(context, event):
            return event.body[::-1]
        """)
    body = bytes(range(256)) * 4096
    for seq in range(1, 20):
        w.write(wire.event(seq, sections=[w.put_body(seq * 64, body)]))
        record = w.next()
        assert wire.BODY_REF in record.sections and record.body == body[::-1]


def test_a_full_pool_gives_chunks(worker) -> None:
    w = worker("""
        def handler(context, event):
            return b"x" * 1000000
        """, pool_size=1 << 19)
    w.write(wire.event(1))
    reply = w.reply()
    assert reply.body == b"x" * 1000000
    assert reply.chunks[0].flags == wire.HEAD and reply.chunks[0].status == 200
    assert reply.result.flags == wire.STREAMED


def test_a_full_ring_is_waited_for(worker) -> None:
    w = worker("""
        def handler(context, event):
            return b"y" * 3000
        """, ring_size=1 << 16)
    w.write(*[wire.event(seq) for seq in range(1, 200)])
    assert all(w.next().seq == seq for seq in range(1, 200))


def test_one_wakeup_for_many_results(worker) -> None:
    w = worker("def handler(context, event): return 'x'")
    w.write(*[wire.event(seq) for seq in range(1, 501)])
    w.replies(500)
    assert w.wakeups < 100


SLOW = """
    import os, time
    def handler(context, event):
        while event.path == "/slow" and not os.path.exists(event.body):
            time.sleep(0.001)
        return event.path
    """


def test_results_before_a_slow_handler_do_not_wait(worker, tmp_path: Path) -> None:
    w = worker(SLOW)
    for seq in range(1, 20):  # none of them is quick
        go = tmp_path / f"{seq}"
        w.write(wire.event(seq, bytes(go), path=b"/slow"))
        go.touch()
        w.next()
    go = tmp_path / "go"
    w.write(wire.event(20), wire.event(21, bytes(go), path=b"/slow"))
    assert w.next().seq == 20
    go.touch()
    assert w.next().seq == 21


def test_taken_back(worker, tmp_path: Path) -> None:
    w = worker(SLOW)
    go = tmp_path / "go"
    w.write(wire.event(1, bytes(go), path=b"/slow"), wire.event(2), wire.event(3))
    while w.index(wire.DOWN, wire.TAKEN) == 0:
        pass
    w.take_back()
    w.write(wire.event(4))
    go.touch()
    assert [w.next().seq, w.next().seq] == [1, 4]


def test_cancelled_before_it_was_begun(worker, tmp_path: Path) -> None:
    w = worker(SLOW)
    go = tmp_path / "go"
    w.write(wire.event(1, bytes(go), path=b"/slow"), wire.event(2), wire.event(3),
            wire.pack(wire.CANCEL, 2, []), wire.pack(wire.CANCEL, 1, []))
    time.sleep(0.01)
    go.touch()
    replies = w.replies(3)
    assert [replies[seq].result.outcome for seq in (1, 2, 3)] == [0, 1, 0]
    assert [replies[seq].body for seq in (1, 2, 3)] == [b"/slow", b"", b"/"]


def test_drain_and_stop(worker) -> None:
    w = worker("def handler(context, event): return 'x'")
    w.write(wire.event(1))
    w.next()
    w.control.send(b"d")
    assert w.said() == "D"
    w.write(wire.event(2))
    time.sleep(0.1)
    assert w.poll() is None
    w.control.send(b"r")
    assert w.next().seq == 2
    assert w.stop() == ""


def test_the_processor_goes_away(worker) -> None:
    w = worker("def handler(context, event): return 'x'")
    w.control.close()
    assert w.process.wait(30) == 0


def test_batch(worker) -> None:
    w = worker("""
        def handler(context, events):
            return [f"{e.body.decode()} {e.last_in_batch}" for e in events]
        """, batch=True)
    records = [wire.event(seq, body=b"b%d" % seq) for seq in (1, 2, 3)]
    w.write(wire.pack(wire.BATCH, 0, [(wire.RECORD, r) for r in records]))
    replies = w.replies(3)
    assert [replies[seq].body for seq in (1, 2, 3)] == [b"b1 False", b"b2 False", b"b3 True"]
    assert replies[2].result.headers == [(b"Event", b"02")]
    w.write(wire.event(9, body=b"alone"))
    assert w.reply().body == b"alone True"


def test_a_batch_that_raises(worker) -> None:
    w = worker("def handler(context, events): return 1 / 0", batch=True)
    w.write(wire.pack(wire.BATCH, 0, [(wire.RECORD, wire.event(s)) for s in (1, 2)]))
    assert all(r.result.status == 500 for r in w.replies(2).values())


def test_a_ring_of_nonsense_ends_the_worker(worker) -> None:
    w = worker("def handler(context, event): return 'x'")
    w.write(struct.pack("=IHBBQ", 8, 16, 1, 0, 1))
    assert w.process.wait(30) == 1
    assert "makes no sense" in w.errors()


def test_a_fork_that_comes_back(worker) -> None:
    w = worker("""
        import os
        def handler(context, event):
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
            return "parent" if pid else "child"
        """)
    w.write(wire.event(1), wire.event(2))
    assert [w.reply().body for _ in range(2)] == [b"parent", b"parent"]
    assert w.poll() is None


@pytest.mark.parametrize("code", ["'piece'", "b'piece'", "{'a': 'b' * 100000}"])
def test_a_generator_streams(worker, code: str) -> None:
    w = worker(f"""
        def handler(context, event):
            for _ in range(100):
                yield {code}
        """)
    w.write(wire.event(1), wire.event(2))
    for seq in (1, 2):
        reply = w.reply()
        assert reply.result.flags == wire.STREAMED and reply.result.seq == seq
        assert reply.chunks[0].flags == wire.HEAD and reply.chunks[1].flags == 0
        assert reply.chunks[0].content_type == "text/plain"
        assert reply.body == (b'{"a": "' + b"b" * 100000 + b'"}' if "{" in code else b"piece") * 100


def test_a_stream_waits_for_credit(worker) -> None:
    w = worker("""
        def handler(context, event):
            for i in range(10):
                yield bytes([i]) * 100000
        """)
    w.credit_automatically = False
    w.write(wire.event(1), wire.event(2))  # an event that waits hides no credit
    got = b""
    while len(got) < 262144:
        got += w.next().body
    assert len(got) == 262144 and w.poll() is None
    w.credit(1, 1)
    got += w.next().body
    assert len(got) == 262145
    w.credit(1, 1000000)
    while (record := w.next()).kind == wire.CHUNK:
        got += record.body
    assert got == b"".join(bytes([i]) * 100000 for i in range(10))
    assert record.seq == 1
    w.credit(2, 10**6)
    assert w.reply().result.seq == 2


def test_a_stream_that_nobody_reads(worker) -> None:
    w = worker("""
        closed = []
        def handler(context, event):
            if event.path == "/ask":
                return str(closed)
            return pieces()
        def pieces():
            try:
                while True:
                    yield "x" * 10000
            finally:
                closed.append(1)
        """)
    w.credit_automatically = False
    w.write(wire.event(1))
    w.next()
    w.write(wire.pack(wire.CANCEL, 1, []))
    reply = w.reply()
    assert reply.result.flags == wire.STREAMED | wire.FAILED
    w.write(wire.event(2, path=b"/ask"))
    assert w.reply().body == b"[1]"


def test_a_stream_that_raises(worker) -> None:
    w = worker("""
        def handler(context, event):
            if event.path == "/late":
                yield "begun"
            raise ValueError("no")
            yield
        """)
    w.write(wire.event(1), wire.event(2, path=b"/late"))
    first, second = w.reply(), w.reply()
    assert first.result.status == 500 and first.body == b"ValueError: no" and not first.chunks
    assert second.body == b"begun" and second.result.flags == wire.STREAMED | wire.FAILED


def test_an_empty_stream(worker) -> None:
    w = worker("""
        from types import SimpleNamespace as S
        def handler(context, event):
            return S(status=203, type="a/b", headers={"X": "y"}, body=iter(()))
        """)
    w.write(wire.event(1))
    reply = w.reply()
    assert (reply.result.status, reply.result.content_type, reply.result.flags) == (203, "a/b", 0)
    assert reply.result.headers == [(b"X", b"y")] and not reply.chunks and reply.body == b""


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_no_event_is_slept_through(worker, kind: str) -> None:
    """One after the other, so that the worker is about to sleep again and again."""
    w = worker(f"{kind} handler(context, event): return 'x'")
    for seq in range(1, 20001):
        w.write(wire.event(seq))
        while w.poll() is None:
            pass
