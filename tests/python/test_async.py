"""Handlers on an asyncio loop, and those that are on none."""

import sysconfig
import time

import pytest
from wire_peer import SLOW


@pytest.fixture(params=["asyncio", "uvloop"], name="loop")
def loop_fixture(request):
    return request.param


@pytest.fixture(name="peer")
def peer_fixture(peer, loop):
    """start() of both workers, on each of the loops. uvloop is the venv's, which the interpreters of
    the workers do not see otherwise."""
    path = sysconfig.get_path("platlib") if loop == "uvloop" else None
    return lambda code, **more: peer(code, path=path, **more)


def test_which_loop(peer, loop):
    one = peer("import asyncio\nasync def handler(context, event):\n    await asyncio.sleep(0)\n"
               "    return type(asyncio.get_running_loop()).__module__\n")
    assert one.call().text == ("uvloop" if loop == "uvloop" else "asyncio.unix_events")


def test_sync_handlers_may_run_a_loop(peer):
    one = peer("import asyncio, threading, signal\n"
               "async def work():\n    await asyncio.sleep(0)\n    return 'ran'\n"
               "def handler(context, event):\n"
               "    assert threading.current_thread() is threading.main_thread()\n"
               "    signal.signal(signal.SIGUSR1, lambda *_: None)\n"
               "    return asyncio.run(work())\n", max_concurrency=8)
    assert one.ready["credits"] == 1
    assert one.call().text == "ran"
    assert one.call().text == "ran"


def test_many_in_flight(peer):
    one = peer("import asyncio\nasync def handler(context, event):\n"
               "    await asyncio.sleep(0.1)\n    return event.body\n", max_concurrency=1000)
    assert one.ready["credits"] == 1000
    began = time.monotonic()
    sent = [one.send(str(i)) for i in range(1000)]
    assert [one.answer(seq).text for seq in sent] == [str(i) for i in range(1000)]
    assert time.monotonic() - began < 5 * SLOW


def test_more_than_a_socket_holds(peer):
    one = peer("import asyncio\nasync def handler(context, event):\n"
               "    await asyncio.sleep(0)\n    return event.body * 2\n", max_concurrency=8)
    sent = [one.send(bytes([65 + i]) * 1_000_000) for i in range(8)]
    time.sleep(0.3)  # nobody reads what it answers
    for i, seq in enumerate(sent):
        assert one.answer(seq).body == bytes([65 + i]) * 2_000_000


def test_no_more_than_max_concurrency(peer):
    one = peer("import asyncio\nrunning = most = 0\nasync def handler(context, event):\n"
               "    global running, most\n    running += 1\n    most = max(most, running)\n"
               "    await asyncio.sleep(0.01)\n    running -= 1\n    return str(most)\n",
               max_concurrency=3)
    sent = [one.send() for _ in range(20)]
    assert max(int(one.answer(seq).text) for seq in sent) == 3


def test_background_tasks_live_on(peer):
    one = peer("import asyncio\ncount = 0\nasync def tick():\n    global count\n"
               "    while True:\n        count += 1\n        await asyncio.sleep(0.01)\n"
               "task = None\nasync def handler(context, event):\n    global task\n"
               "    task = task or asyncio.create_task(tick())\n    return str(count)\n")
    assert one.call().text == "0"
    one.pump(0.3)
    assert int(one.call().text) > 2


def test_tasks_of_init_context_live_on_beside_a_sync_handler(peer):
    one = peer("import asyncio\ncount = 0\nasync def tick():\n    global count\n"
               "    while True:\n        count += 1\n        await asyncio.sleep(0.01)\n"
               "async def init_context(context):\n"
               "    context.user_data.task = asyncio.create_task(tick())\n"
               "def handler(context, event):\n    return str(count)\n")
    one.pump(0.3)
    assert int(one.call().text) > 2


@pytest.mark.parametrize("what", ["raise SystemExit(3)", "raise KeyboardInterrupt", "1 / 0"])
def test_a_failing_background_task_ends_nothing(peer, what):
    one = peer("import asyncio\nasync def bad():\n    await asyncio.sleep(0)\n    " + what + "\n"
               "async def handler(context, event):\n"
               "    asyncio.create_task(bad())\n    await asyncio.sleep(0.05)\n    return 'x'\n")
    assert one.call().text == "x"
    assert one.call().text == "x"


@pytest.mark.parametrize("code", [
    "class H:\n    async def __call__(self, context, event):\n        return 'x'\nhandler = H()\n",
    "class H:\n    async def m(self, context, event):\n        return 'x'\nhandler = H().m\n",
    "import functools\nasync def f(extra, context, event):\n    return 'x'\n"
    "handler = functools.partial(f, 1)\n",
])
def test_asynchronous_callables_are_seen_at_the_start(peer, code):
    one = peer(code, max_concurrency=5)
    assert one.ready["credits"] == 5
    assert one.call().text == "x"


@pytest.mark.parametrize("code", [
    "class H:\n    def __call__(self, context, event):\n        return 'x'\nhandler = H()\n",
    "handler = lambda context, event: 'x'\n",
    "import functools\nhandler = functools.partial(lambda a, c, e: 'x', 1)\n",
    "class handler(str):\n    def __new__(cls, c, e):\n        return 'x'\n",
])
def test_any_callable(peer, code):
    one = peer(code, max_concurrency=5)
    assert one.ready["credits"] == 1
    assert one.call().text == "x"


def test_a_handler_that_turns_out_to_be_asynchronous(peer):
    one = peer("import asyncio, functools\nasync def work(event):\n"
               "    await asyncio.sleep(0.05)\n    return event.body\n"
               "def handler(context, event):\n    return work(event)\n", max_concurrency=10)
    assert one.ready["credits"] == 1
    sent = [one.send(str(i)) for i in range(10)]
    assert [one.answer(seq).text for seq in sent] == [str(i) for i in range(10)]
    assert one._credits == 10


def test_asynchronous_init_context(peer):
    one = peer("import asyncio\nasync def init_context(context):\n"
               "    await asyncio.sleep(0.01)\n    context.user_data.x = 'made'\n"
               "def handler(context, event):\n    return asyncio.run(later(context))\n"
               "async def later(context):\n    return context.user_data.x\n")
    assert one.call().text == "made"


def test_cancel_of_what_has_not_begun(portable):
    one = portable("import asyncio\nran = []\nasync def handler(context, event):\n"
               "    ran.append(event.path)\n    await asyncio.sleep(0.2)\n    return str(ran)\n")
    first, second = one.send(path="/1"), one.send(path="/2")
    one.cancel(second)
    one.cancel(first)  # runs, goes on
    assert one.answer(second).outcome == 1
    assert one.answer(first).text == "['/1']"
    assert one.call(path="/3").text == "['/1', '/3']"


def test_logs_of_events_that_run_at_once(peer):
    one = peer("import asyncio\nasync def handler(context, event):\n"
               "    context.logger.info('begin ' + event.path)\n    await asyncio.sleep(0.02)\n"
               "    await asyncio.gather(*[part(context, event) for _ in range(2)])\n"
               "    await asyncio.to_thread(context.logger.info, 'thread ' + event.path)\n"
               "async def part(context, event):\n"
               "    context.logger.info('part ' + event.path)\n", max_concurrency=10)
    sent = [one.send(path=f"/{i}") for i in range(10)]
    for i, seq in enumerate(sent):
        assert one.answer(seq).flags == 2
        assert [log.message for log in one.logs_of(seq)] == [
            f"begin /{i}", f"part /{i}", f"part /{i}", f"thread /{i}"]
