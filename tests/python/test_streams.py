"""Replies in pieces: generators, back-pressure, errors in the middle, clients that go away."""

import pytest
from wire_peer import CHUNK, FAILED, STREAMED

WINDOW = 262144
KINDS = {
    "sync": ("def", "", "return gen(event)"),
    "async": ("async def", "async ", "return gen(event)"),
    "sync-in-async": ("def", "async ", "return gen(event)"),
    "late": ("async def", "", "return gen(event)"),
}


def code(kind, body, answer=None):
    generator, handler, default = KINDS[kind]
    return (f"import asyncio, time\nfrom stator import Response\nclosed = []\n"
            f"{generator} gen(event):\n    try:\n" + "".join(
                f"        {line}\n" for line in body.splitlines())
            + "    finally:\n        closed.append(event.path)\n"
            + f"{handler}def answer(context, event):\n    {answer or default}\n"
            + f"{handler}def handler(context, event):\n"
            "    if event.path == '/closed':\n        return str(closed)\n"
            + ("    return await answer(context, event)\n" if handler
               else "    return answer(context, event)\n"))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_pieces(peer, kind):
    one = peer(code(kind, "yield 'a'\nyield b'\\xff'\nyield None\nyield ''\nyield {'b': 1}\n"
                          "yield 5\n"))
    answer = one.call()
    assert answer.chunks == [b"a", b"\xff", b'{"b": 1}', b"5"]
    assert (answer.status, answer.content_type, answer.flags) == (200, "text/plain", STREAMED)
    assert one.call(path="/closed").text == "['/']"


def test_head(peer, kind):
    one = peer(code(kind, "yield 'x'",
                    "return Response({'X-A': 'b'}, gen(event), 'text/event-stream', 201)"))
    answer = one.call()
    assert (answer.status, answer.content_type) == (201, "text/event-stream")
    assert answer.headers == [("X-A", "b")] and answer.body == b"x"


def test_status_tuple(peer, kind):
    one = peer(code(kind, "yield 'x'", "return 206, gen(event)"))
    answer = one.call()
    assert (answer.status, answer.body) == (206, b"x")


def test_no_piece(peer, kind):
    one = peer(code(kind, "if False:\n    yield 'x'"))
    answer = one.call()
    assert (answer.status, answer.body, answer.flags) == (200, b"", 0)


def test_exception_before_the_first_piece(peer, kind):
    one = peer(code(kind, "raise ValueError('early')\nyield 'x'"))
    answer = one.call()
    assert answer.status == 500 and 'handler - "early": Traceback' in answer.text


def test_exception_later(peer, kind):
    one = peer(code(kind, "yield 'x'\nraise ValueError('late')"))
    answer = one.call()
    assert answer.chunks == [b"x"] and answer.flags & (STREAMED | FAILED) == STREAMED | FAILED
    assert "late" in one.logs_of(answer.seq)[0].variables
    assert one.call(path="/closed").text == "['/']"


def test_large_pieces_are_cut(peer, kind):
    one = peer(code(kind, "yield bytes(200000)\nyield b'end'"))
    answer = one.call()
    assert answer.body == bytes(200000) + b"end"
    assert max(map(len, answer.chunks)) <= 65536


def test_back_pressure(peer, kind):
    one = peer(code(kind, "for _ in range(100):\n    yield bytes(10000)"))
    seq = one.send()
    one.wait(lambda: len(one.answers[seq].body) == WINDOW)
    one.pump(0.3)
    assert len(one.answers[seq].body) == WINDOW
    one.credit(seq, 5000)
    one.wait(lambda: len(one.answers[seq].body) == WINDOW + 5000)
    one.pump(0.1)
    assert len(one.answers[seq].body) == WINDOW + 5000
    other = one.send(path="/closed")  # waits behind it, or runs beside it
    one.credit(seq, 1 << 20)
    one.wait(lambda: one.answers[seq].done)
    assert len(one.answers[seq].body) == 1000000
    assert one.answer(other).text == "['/']"


def test_cancel(peer, kind):
    one = peer(code(kind, "while True:\n    yield bytes(10000)"))
    seq = one.send(path="/stream")
    one.wait(lambda: len(one.answers[seq].body) == WINDOW)
    one.cancel(seq)
    one.wait(lambda: one.answers[seq].done)
    assert one.answers[seq].flags == STREAMED | FAILED
    assert one.logs_of(seq) == []
    assert one.call(path="/closed").text == "['/stream']"


def test_cancel_while_the_generator_waits(peer):
    one = peer(code("async", "yield 'x'\nawait asyncio.sleep(1000)"))
    seq = one.send(path="/stream")
    one.wait(lambda: one.answers[seq].body == b"x")
    one.cancel(seq)
    one.wait(lambda: one.answers[seq].done)
    assert one.call(path="/closed").text == "['/stream']"


def test_streams_beside_each_other(peer):
    one = peer(code("async", "for i in range(20):\n    yield event.path\n"
                             "    await asyncio.sleep(0)"), max_concurrency=5)
    sent = [one.send(path=f"/{i}") for i in range(10)]
    for i, seq in enumerate(sent):
        assert one.answer(seq).text == f"/{i}" * 20


def test_handler_that_is_a_generator(peer):
    for kind in ("def", "async def"):
        one = peer(f"{kind} handler(context, event):\n"
                   "    yield event.body\n    yield b'!'\n", max_concurrency=2)
        assert one.ready["credits"] == (1 if kind == "def" else 2)
        assert one.call("a").chunks == [b"a", b"!"]
        assert one.call("b").chunks == [b"b", b"!"]
        assert CHUNK == 4
