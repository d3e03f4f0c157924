"""Handlers that are coroutines: the extension with a peer that is the processor's side."""

import time
from typing import Any

import pytest
import ring_peer as wire


def bodies(w: Any, n: int) -> list[bytes]:
    replies = w.replies(n)
    return [replies[seq].body for seq in sorted(replies)]


def test_results_and_errors(worker) -> None:
    w = worker("""
        async def handler(context, event):
            if event.path == "/error":
                return 1 / 0
            if event.path == "/exit":
                raise SystemExit(3)
            return event.body.decode() + event.method
        """)
    w.write(wire.event(1, b"a"), wire.event(2, path=b"/error"), wire.event(3, path=b"/exit"),
            wire.event(4, b"b"))
    replies = w.replies(4)
    assert [replies[s].body for s in (1, 2, 3, 4)] == [
        b"aGET", b"ZeroDivisionError: division by zero", b"SystemExit: 3", b"bGET"]
    assert replies[2].result.status == 500


def test_errors_after_a_wait(worker) -> None:
    w = worker("""
        import asyncio
        async def handler(context, event):
            await asyncio.sleep(0.001)
            if event.path == "/error":
                return 1 / 0
            if event.path == "/exit":
                raise SystemExit(3)
            if event.path == "/cancel":
                asyncio.current_task().cancel()
                await asyncio.sleep(1)
            return event.body.decode() + event.method
        """, max_concurrency=10)
    w.write(wire.event(1, b"a"), wire.event(2, path=b"/error"), wire.event(3, path=b"/exit"),
            wire.event(4, path=b"/cancel"), wire.event(5, b"b"))
    assert bodies(w, 5) == [b"aGET", b"ZeroDivisionError: division by zero", b"SystemExit: 3",
                            b"CancelledError: ", b"bGET"]


def test_a_thousand_at_once(worker) -> None:
    w = worker("""
        import asyncio
        async def handler(context, event):
            await asyncio.sleep(0.1)
            return event.body
        """, max_concurrency=1000)
    w.write(wire.event(1, b"warm"))
    w.reply()
    begin = time.monotonic()
    w.write(*[wire.event(seq, b"%d" % seq) for seq in range(1, 1001)])
    replies = w.replies(1000)
    took = time.monotonic() - begin
    assert all(replies[seq].body == b"%d" % seq for seq in range(1, 1001))
    assert took < 5  # one after the other they take 100 s


def test_no_more_at_once_than_may(worker) -> None:
    w = worker("""
        import asyncio
        running = most = 0
        async def handler(context, event):
            global running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.002)
            running -= 1
            return str(most)
        """, max_concurrency=3)
    w.write(*[wire.event(seq) for seq in range(1, 31)])
    assert max(int(body) for body in bodies(w, 30)) == 3


def test_asyncio_before_the_first_wait(worker) -> None:
    """What libraries ask of asyncio works in the part that is driven directly."""
    w = worker("""
        import asyncio
        seen = set()
        async def handler(context, event):
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            assert task is not None and loop.is_running()
            if event.path == "/group":
                async with asyncio.TaskGroup() as group:
                    one = group.create_task(asyncio.sleep(0, 1))
                    two = group.create_task(asyncio.sleep(0.001, 2))
                result = f"{one.result()} {two.result()}"
            elif event.path == "/timeout":
                try:
                    async with asyncio.timeout(0.001):
                        await asyncio.sleep(10)
                except TimeoutError:
                    result = "timeout"
            elif event.path == "/in time":
                async with asyncio.timeout(10):
                    result = "in time"
            elif event.path == "/gather":
                result = str(await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)))
            elif event.path == "/turn":
                await asyncio.sleep(0)
                result = "turn"
            elif event.path == "/future":
                future = loop.create_future()
                loop.call_soon(future.set_result, "future")
                result = await asyncio.shield(future)
            elif event.path == "/thread":
                result = await asyncio.to_thread(str, event.path)
            assert asyncio.current_task() is task
            return result
        """, max_concurrency=5)
    paths = [b"group", b"timeout", b"in time", b"gather", b"turn", b"future", b"thread"] * 10
    w.write(*[wire.event(i + 1, path=b"/" + path) for i, path in enumerate(paths)])
    assert bodies(w, len(paths)) == [
        b"1 2", b"timeout", b"in time", b"[1, 2]", b"turn", b"future", b"/thread"] * 10


def test_a_cancel_does_not_hit_another_event(worker) -> None:
    w = worker("""
        import asyncio
        kept = []
        async def handler(context, event):
            task = asyncio.current_task()
            if event.path == "/cancel":
                task.cancel()
            elif event.path == "/keep":
                kept.append(task)
            elif event.path == "/cancel kept":
                [one.cancel() for one in kept]
            else:
                await asyncio.sleep(0)
                return str(task in kept)
            return "done"
        """, max_concurrency=3)
    paths = [b"/cancel", b"/wait", b"/wait", b"/keep", b"/wait", b"/cancel kept", b"/wait"] * 5
    for i, path in enumerate(paths):
        w.write(wire.event(i + 1, path=path))
        assert w.reply().body == (b"False" if path == b"/wait" else b"done")
    w.write(*[wire.event(100 + i, path=path) for i, path in enumerate(paths)])
    assert all(body in (b"done", b"False") for body in bodies(w, len(paths)))


def test_all_tasks_cancelled(worker) -> None:
    w = worker("""
        import asyncio
        async def handler(context, event):
            if event.path == "/cancel":
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()
                return "cancelled"
            await asyncio.sleep(0 if event.path == "/short" else 60)
            return "slept"
        """, max_concurrency=10)
    w.write(wire.event(1), wire.event(2), wire.event(3, path=b"/cancel"),
            wire.event(4, path=b"/short"))
    replies = w.replies(4)
    assert replies[1].body == replies[2].body == b"CancelledError: "
    assert replies[3].body == b"cancelled"
    w.write(wire.event(5, path=b"/short"))
    assert w.reply().body == b"slept"


def test_context_variables_are_an_events_own(worker) -> None:
    w = worker("""
        import asyncio, contextvars
        var = contextvars.ContextVar("var", default="none")
        async def child():
            await asyncio.sleep(0)
            return var.get()
        async def handler(context, event):
            before = var.get()
            token = var.set(event.path)
            if event.path != "/direct":
                await asyncio.sleep(0.001)
            result = f"{before} {var.get()}"
            if event.path == "/child":
                result += " " + await asyncio.create_task(child())
            if event.path != "/set":
                var.reset(token)
            assert context.native.current_event() is event
            return result
        """, max_concurrency=4)
    paths = [b"/direct", b"/wait", b"/set", b"/child"] * 20
    w.write(*[wire.event(i + 1, path=path) for i, path in enumerate(paths)])
    assert bodies(w, len(paths)) == [
        b"none /direct", b"none /wait", b"none /set", b"none /child /child"] * 20


def test_background_tasks_go_on(worker) -> None:
    w = worker("""
        import asyncio
        count = 0
        async def background(context, event):
            global count
            while True:
                await asyncio.sleep(0.001)
                assert context.native.current_event() is event
                count += 1
        task = None
        async def handler(context, event):
            global task
            if task is None:
                task = asyncio.create_task(background(context, event))
            return str(count)
        """)
    w.write(wire.event(1))
    assert w.reply().body == b"0"
    time.sleep(0.1)
    w.write(wire.event(2))
    assert int(w.reply().body) > 1


def test_base_exceptions_of_tasks_end_nothing(worker) -> None:
    w = worker("""
        import asyncio
        async def leave():
            raise SystemExit(1)
        async def handler(context, event):
            handler.task = asyncio.create_task(leave())
            await asyncio.sleep(0.001)
            return "here"
        """)
    for seq in (1, 2, 3):
        w.write(wire.event(seq))
        assert w.reply().body == b"here"


def test_a_plain_function_that_gives_a_coroutine(worker) -> None:
    w = worker("""
        import asyncio
        async def later(event):
            await asyncio.sleep(0.001)
            return event.path
        class Awaitable:
            def __init__(self, event): self.event = event
            def __await__(self): return later(self.event).__await__()
        def handler(context, event):
            if event.path == "/plain":
                return "plain"
            return Awaitable(event) if event.path == "/object" else later(event)
        """, max_concurrency=4)
    w.write(wire.event(1, path=b"/plain"), wire.event(2), wire.event(3, path=b"/plain"),
            wire.event(4, path=b"/object"))
    assert w.next().seq == 1
    credit = w.next()
    assert credit.kind == wire.CREDIT and credit.sections[wire.META][:4] == b"\3\0\0\0"
    assert bodies(w, 3) == [b"/", b"plain", b"/object"]


def test_plain_functions_see_no_loop(worker) -> None:
    w = worker("""
        import asyncio
        async def inner(): return "inner"
        def handler(context, event):
            return asyncio.run(inner())
        """)
    w.write(wire.event(1), wire.event(2))
    assert [w.reply().body, w.reply().body] == [b"inner", b"inner"]


def test_events_outlive_the_ring(worker) -> None:
    w = worker("""
        import asyncio
        async def handler(context, event):
            await asyncio.sleep(0.02)
            return event.body[::-1]
        """, max_concurrency=500, ring_size=1 << 18)
    long = bytes(range(256)) * 1000
    w.write(wire.event(1, sections=[w.put_body(0, long)]))
    w.write(*[wire.event(seq, b"%03d" % seq * 200) for seq in range(2, 400)])
    replies = w.replies(399)
    assert replies[1].body == long[::-1]
    assert all(replies[seq].body == (b"%03d" % seq * 200)[::-1] for seq in range(2, 400))


@pytest.mark.parametrize("wait", ["", "await asyncio.sleep(0)"])
def test_an_asynchronous_generator_streams(worker, wait: str) -> None:
    w = worker(f"""
        import asyncio
        async def handler(context, event):
            for i in range(50):
                {wait or "pass"}
                yield event.path * 10000
        """, max_concurrency=4)
    w.write(*[wire.event(seq, path=b"/%d" % seq) for seq in (1, 2, 3)])
    replies = w.replies(3)
    for seq in (1, 2, 3):
        assert replies[seq].body == b"/%d" % seq * 500000
        assert replies[seq].result.flags == wire.STREAMED


def test_streams_wait_for_credit_without_stopping_others(worker) -> None:
    w = worker("""
        async def pieces():
            for i in range(10):
                yield b"x" * 100000
        async def handler(context, event):
            if event.path == "/long":
                return b"y" * 1000000
            return pieces() if event.path == "/stream" else event.path
        """, max_concurrency=4, pool_size=1 << 16)
    w.credit_automatically = False
    w.write(wire.event(1, path=b"/stream"), wire.event(2, path=b"/long"), wire.event(3))
    got = {1: 0, 2: 0}
    while True:
        record = w.next()
        if record.kind == wire.RESULT:
            break
        got[record.seq] += len(record.body)
    assert record.seq == 3 and got == {1: 262144, 2: 262144}
    w.credit_automatically = True
    w.credit(1, 262144)
    w.credit(2, 262144)
    for seq, reply in w.replies(2).items():
        got[seq] += len(reply.body)
    assert got == {1: 1000000, 2: 1000000}


def test_cancelled_streams_end(worker) -> None:
    w = worker("""
        import asyncio
        ended = []
        async def handler(context, event):
            if event.path == "/ask":
                yield str(ended)
                return
            try:
                while True:
                    yield "x" * 1000
                    if event.path == "/idle":
                        await asyncio.sleep(60)
            finally:
                ended.append(event.path)
        """, max_concurrency=4)
    w.credit_automatically = False
    w.write(wire.event(1, path=b"/idle"), wire.event(2, path=b"/full"))
    for _ in range(264):
        w.next()
    w.write(wire.pack(wire.CANCEL, 1, []), wire.pack(wire.CANCEL, 2, []))
    assert all(r.result.flags == wire.STREAMED | wire.FAILED for r in w.replies(2).values())
    w.write(wire.event(3, path=b"/ask"))
    assert w.reply().body in (b"['/idle', '/full']", b"['/full', '/idle']")


def test_streams_that_raise(worker) -> None:
    w = worker("""
        import asyncio
        async def handler(context, event):
            if event.path == "/late":
                yield "begun"
                await asyncio.sleep(0)
            raise ValueError("no")
        """, max_concurrency=4)
    w.write(wire.event(1), wire.event(2, path=b"/late"))
    replies = w.replies(2)
    assert replies[1].body == b"ValueError: no" and replies[1].result.status == 500
    assert replies[2].body == b"begun" and replies[2].result.flags == wire.STREAMED | wire.FAILED


def test_batches(worker) -> None:
    w = worker("""
        import asyncio
        async def handler(context, events):
            await asyncio.sleep(0.001)
            return [e.body.decode() for e in events]
        """, batch=True, max_concurrency=2)
    for first in range(1, 30, 3):
        records = [wire.event(seq, body=b"b%d" % seq) for seq in range(first, first + 3)]
        w.write(wire.pack(wire.BATCH, 0, [(wire.RECORD, r) for r in records]))
    assert bodies(w, 30) == [b"b%d" % seq for seq in range(1, 31)]


def test_drain_waits_for_what_runs(worker) -> None:
    w = worker("""
        import asyncio
        async def handler(context, event):
            await asyncio.sleep(0.1)
            return "done"
        """, max_concurrency=4)
    w.write(wire.event(1), wire.event(2))
    while w.index(wire.DOWN, wire.HEAD_AT) != w.tail:
        time.sleep(0.001)
    w.control.send(b"d")
    assert w.said() == "D"
    assert w.poll() is not None and w.poll() is not None


def test_a_ring_of_nonsense_ends_the_worker(worker) -> None:
    w = worker("async def handler(context, event): return 'x'")
    w.write(wire.record_head.pack(8, 16, 1, 0, 1))
    assert w.process.wait(30) == 1
    assert "makes no sense" in w.errors()


def test_the_processor_goes_away(worker) -> None:
    w = worker("async def handler(context, event): return 'x'")
    w.control.close()
    assert w.process.wait(30) == 0
