"""Events that wait with a worker because its handler is quick: none is the worse for it when an event
turns out to be slow."""

import threading
import time

from http_raw import Connection, build_request
from stator_proc import patience

HANDLER = """
    import time

    def handler(context, event):
        time.sleep(float(event.body or b"0"))
        return event.body
"""


def warm_up(s) -> None:
    """So many quick events that the worker gets some ahead."""
    with Connection(s.address, patience(15)) as c:
        for _ in range(20):
            c.send(build_request("POST", "/", b"0") * 32)
            for _ in range(32):
                assert c.read_response().status == 200


def test_a_result_before_a_slow_event_is_not_held_back(python):
    s = python(HANDLER)
    warm_up(s)
    with Connection(s.address, patience(15)) as c:
        begin = time.monotonic()
        slow = patience(2)
        c.send(build_request("POST", "/", b"0") + build_request("POST", "/", b"%d" % slow))
        assert c.read_response().body == b"0"
        assert time.monotonic() - begin < patience(1.5)
        assert c.read_response().body == b"%d" % slow
        assert time.monotonic() - begin >= int(slow)


def test_what_waits_behind_a_slow_event_goes_elsewhere(python):
    s = python(HANDLER, workers=2)
    warm_up(s)
    spent: list[float] = []

    def ask() -> None:
        with Connection(s.address, patience(15)) as c:
            begin = time.monotonic()
            assert c.ask("POST", "/", b"0").status == 200
            spent.append(time.monotonic() - begin)

    with Connection(s.address, patience(15)) as slow:
        slow.send(build_request("POST", "/", b"3"))
        threads = [threading.Thread(target=ask) for _ in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(spent) == 20 and max(spent) < 2
        assert slow.read_response().body == b"3"


ASYNC = """
    import asyncio, time

    async def handler(context, event):
        if event.body == b"block":
            time.sleep(0.2)     # what a coroutine should not do
        await asyncio.sleep(0.01)
        return event.body
"""


def test_results_that_were_looked_for_are_credits_too(python):
    """Results that a timer found, because the worker was held up, free their places as others do."""
    s = python(ASYNC, trigger={"maxConcurrency": 4})
    with Connection(s.address, patience(30)) as c:
        for _ in range(5):
            bodies = [b"x", b"x", b"block", b"x"] * 3
            for body in bodies:
                c.send(build_request("POST", "/", body))
            for body in bodies:
                assert c.read_response().body == body
