"""The worker that was written from docs/wire.md alone."""

import struct
import sys

import pytest
from wire_peer import FAILED, ROOT, STREAMED, Peer

COMMAND = [sys.executable, str(ROOT / "tests" / "support" / "wire_worker.py")]


@pytest.fixture(scope="module")
def worker():
    with Peer("", command=COMMAND, env={"PYTHONPATH": None}) as peer:
        yield peer


def test_its_source_is_short_and_uses_nothing_of_ours():
    source = (ROOT / "tests" / "support" / "wire_worker.py").read_text()
    code = [line for line in source.splitlines() if line.strip()]
    assert len(code) <= 180 and "stator" not in source.split('"""')[2]


def test_start(worker):
    assert worker.hello == {"protocol": 1, "language": "plain python", "shared_memory": False}
    assert worker.ready == {"credits": 1, "batch": False}


def test_results(worker):
    answer = worker.call(b"body", headers=[("A", "b")])
    assert (answer.status, answer.body, answer.headers) == (200, b"body", [("X-Worker", "plain")])
    assert worker.call(path="/status/404").status == 404
    assert worker.call(path="/headers", headers=[("A", "b"), ("C", "d")]).text == "A: b\nC: d\n"
    assert worker.call(path="/headers").text == ""
    big = bytes(3 << 20)
    assert worker.call(big).body == big


def test_log(worker):
    answer = worker.call(b"x", path="/log")
    (log,) = worker.logs_of(answer.seq)
    assert (log.level, log.message, log.variables, answer.flags) == (
        "info", "a message", '{"a": 1}', 2)


def test_meta(worker):
    seq = worker.send(path="/meta", offset=7, lo=8, shard=9, timestamp_ns=10)
    assert worker.answer(seq).text == f"{worker.ids[seq].replace('-', '')} 10 7 8 9"


def test_stream(worker):
    answer = worker.call(path="/stream/1000")
    assert len(answer.body) == 1_000_000 and answer.flags == STREAMED


def test_stream_waits_and_is_cancelled(worker):
    seq = worker.send(path="/stream/1000")
    other = worker.send(b"other")
    worker.wait(lambda: len(worker.answers[seq].body) == 262_000)
    worker.pump(0.2)
    assert len(worker.answers[seq].body) == 262_000
    worker.cancel(seq)
    worker.wait(lambda: worker.answers[seq].done)
    assert worker.answers[seq].flags == STREAMED | FAILED
    assert worker.answer(other).body == b"other"


def test_batch(worker):
    sent = worker.send_batch([{"body": str(i)} for i in range(5)])
    assert [worker.answer(seq).text for seq in sent] == list("01234")


def test_drain_and_end():
    with Peer("", command=COMMAND) as peer:
        peer.drain()
        peer.wait(lambda: peer.drained == 1)
        peer.resume()
        assert peer.call(b"x").body == b"x"
        peer.terminate()
        assert peer.wait_end() == 0


def test_exit():
    with Peer("", command=COMMAND) as peer:
        peer.send(path="/exit/3")
        assert peer.wait_end() == 3
        assert struct.calcsize("<16sQQQQiIIHHHB5x") == 72
