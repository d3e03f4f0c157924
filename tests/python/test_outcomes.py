"""Retry and Reject, raised and given back, and explicit acknowledgements: both workers."""

import pytest
from wire_peer import Peer

OK, ERROR, RETRY, REJECT = range(4)

HANDLER = """
import asyncio
import stator
from nuclio_sdk import QualifiedOffset

RESULTS = {
    "/retry": lambda: stator.Retry(),
    "/retry-later": lambda: stator.Retry(1.2345, "not yet"),
    "/retry-now": lambda: stator.Retry(0),
    "/reject": lambda: stator.Reject("no \u20ac"),
    "/reject-object": lambda: stator.Reject({"why": 1}),
    "/mine": lambda: Mine("busy"),
    "/error": lambda: ValueError("plain"),
}

class Mine(stator.Retry):
    def __init__(self, reason):
        super().__init__(2, reason)

def handler(context, event):
    made = RESULTS[event.path]()
    if event.method == "POST":
        raise made
    return made

async def later(context, event):
    await asyncio.sleep(0)
    return handler(context, event)

def stream(context, event):
    def pieces():
        raise RESULTS[event.path]()
        yield b""
    return pieces()

def batch(context, events):
    if events[0].path == "/all":
        raise stator.Retry(3)
    replies = []
    for event in events:
        if event.path == "/ok":
            replies.append(context.Response(body="ok", event_id=event.id))
        else:
            replies.append(RESULTS[event.path]())
            replies[-1].event_id = event.id
    return replies

async def ack(context, event):
    try:
        place = QualifiedOffset.from_event(event)
        if event.method == "HEAD":
            place = QualifiedOffset(place.topic, place.partition, -1)
        if event.method == "PUT":
            place = QualifiedOffset(event.body.decode(), event.shard_id, event.offset)
        await context.platform.explicit_ack(place)
    except ValueError as exc:
        return str(exc)
    response = context.Response(body="kept")
    response.ensure_no_ack()
    return response
"""

WANTED = {
    "/retry": (RETRY, 0, ""), "/retry-later": (RETRY, 1235, "not yet"), "/retry-now": (RETRY, 1, ""),
    "/reject": (REJECT, 0, "no \u20ac"), "/reject-object": (REJECT, 0, "{'why': 1}"),
    "/mine": (RETRY, 2000, "busy"),
}


@pytest.fixture
def serve(plane, tmp_path):
    (tmp_path / "h.py").write_text(HANDLER, encoding="utf-8")
    return lambda name, **options: Peer(f"h:{name}", tmp_path, **plane, **options)


def said(answer):
    assert answer.status == 0 and answer.content_type == "text/plain"
    return answer.outcome, answer.retry_after_ms, answer.text


@pytest.mark.parametrize("name", ["handler", "later", "stream"])
def test_outcomes(serve, name):
    with serve(name) as peer:
        for path, wanted in WANTED.items():
            for method in ("POST",) if name == "stream" else ("POST", "GET"):
                assert said(peer.call(path=path, method=method)) == wanted
        assert not peer.logs  # they are no errors
        answer = peer.call(path="/error", method="POST")
        assert (answer.status, answer.outcome) == (500, ERROR) and "plain" in answer.text


def test_batch(serve):
    with serve("batch", batch=True) as peer:
        paths = ["/ok", *WANTED]
        for seq, path in zip(peer.send_batch([{"path": path} for path in paths]), paths):
            answer = peer.answer(seq)
            if path == "/ok":
                assert (answer.status, answer.outcome, answer.text) == (200, OK, "ok")
            else:
                assert said(answer) == WANTED[path]
        for seq in peer.send_batch([{"path": "/all"}, {"path": "/ok"}]):
            assert said(peer.answer(seq)) == (RETRY, 3000, "")


def test_explicit_ack(serve):
    with serve("ack") as peer:
        place = {"http_version": 0, "topic": "orders", "shard": 7, "offset": (1 << 40) + 3}
        answer = peer.call(**place)
        assert answer.text == "kept" and answer.outcome == OK
        assert ("x-nuclio-stream-no-ack", "true") in answer.headers
        assert peer.call(**{**place, "shard": 0, "offset": 0}).text == "kept"
        peer.wait(lambda: len(peer.acknowledged) == 2)
        assert peer.acknowledged == [("orders", 7, (1 << 40) + 3), ("orders", 0, 0)]
        # Without a stream there is nothing to say; what is no place in one is told to the handler.
        assert peer.call(path="/x").text == "kept"
        assert "no place" in peer.call(**{**place, "method": "HEAD"}).text
        assert "1024" in peer.call("t" * 1025, method="PUT", **place).text
        assert peer.call(**place).text == "kept"
        peer.wait(lambda: len(peer.acknowledged) == 3)
