"""context.metrics: in a unit test, and what both workers send of it."""

import threading
import time

import pytest
import stator
from protobuf import text
from stator import testing


def count_orders(context, event):
    context.metrics.count("orders")
    context.metrics.count("bytes", event.size)
    context.metrics.gauge("depth", 3)
    return "x"


def test_without_a_processor():
    context = testing.make_context()
    for body in ("abc", "de"):
        testing.call(count_orders, context=context, body=body)
    assert context.metrics.counts == {"orders": 2, "bytes": 5}
    assert context.metrics.gauges == {"depth": 3}
    assert stator.Context().metrics.counts == {}


@pytest.mark.parametrize("name", ["", "1a", "a b", "a-b", "é", "a" * 65, "a\n"])
def test_wrong_names(name):
    metrics = stator.Metrics()
    with pytest.raises(ValueError, match="no name of a metric"):
        metrics.count(name)
    with pytest.raises(ValueError, match="no name of a metric"):
        metrics.gauge(name, 1)
    assert metrics.counts == {} and metrics.gauges == {}


def test_wrong_values():
    metrics = stator.Metrics()
    for value in (-1, float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="0 or more expected"):
            metrics.count("a", value)
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="finite"):
            metrics.gauge("a", value)
    with pytest.raises(TypeError):
        metrics.count("a", "1")
    with pytest.raises(TypeError):
        metrics.gauge("a", None)
    with pytest.raises(TypeError, match="a name expected"):
        metrics.count(7)
    with pytest.raises(OverflowError):
        metrics.count("a", 10 ** 400)
    assert metrics.counts == {} and metrics.gauges == {}
    metrics.gauge("a" * 64, -1.5)
    metrics.count("a", 0)
    assert metrics.gauges == {"a" * 64: -1.5} and metrics.counts == {"a": 0}


def test_too_many_names():
    metrics = stator.Metrics()
    for i in range(100):
        metrics.count(f"n{i}")
    metrics.gauge("n0", 1)
    metrics.count("n0")
    assert len(metrics.counts) == 64 and metrics.counts["n0"] == 2 and metrics.gauges == {}


def test_threads():
    metrics = stator.Metrics()
    threads = [threading.Thread(target=lambda: [metrics.count("a") for _ in range(5000)])
               for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert metrics.counts == {"a": 20000}


# In a worker

HANDLER = """
import os, time
def init_context(context):
    context.metrics.count("started")
    def end():
        context.metrics.count("ended")
    context.platform.set_termination_callback(end)
    context.platform.set_drain_callback(lambda: context.metrics.count("drain"))
def handler(context, event):
    if event.path == "/slow":
        context.metrics.gauge("progress", 0.5)
        time.sleep(1000)
    if event.path == "/many":
        for i in range(100):
            context.metrics.count(f"n{i}", 2)
    if event.path == "/fork":
        pid = os.fork()
        context.metrics.count("forked")
        if pid == 0:
            context.logger.info("child")
            os._exit(0)
        os.waitpid(pid, 0)
    context.metrics.count("calls")
    context.metrics.gauge("depth", -event.size)
    return "x"
async def later(context, event):
    return handler(context, event)
"""


def total(one, name):
    return sum(value for found, value, gauge, _ in one.metrics if found == name and not gauge)


@pytest.mark.parametrize("handler", ["h:handler", "h:later"])
def test_sent_in_batches(peer, handler):
    """Many events, few messages; all of it arrives though nothing more happens."""
    one = peer(HANDLER, handler)
    began = time.monotonic()
    for i in range(200):
        one.call(body=b"x" * i)
    one.wait(lambda: total(one, "calls") == 200)
    spent = time.monotonic() - began
    assert total(one, "started") == 1
    depths = [value for name, value, gauge, _ in one.metrics if name == "depth" and gauge]
    assert depths[-1] == -199
    assert len(depths) <= 2 + spent / 0.1
    assert all(dropped == 0 for *_, dropped in one.metrics)


def test_while_a_handler_runs(peer):
    one = peer(HANDLER)
    one.send(path="/slow")
    one.wait(lambda: ("progress", 0.5, True, 0) in one.metrics)


def test_at_drain_and_at_the_end(peer):
    one = peer(HANDLER)
    one.call()
    one.say(text(2, b""))
    one.wait(lambda: one.drained == 1)
    assert total(one, "calls") == 1 and total(one, "drain") == 1
    one.say(text(3, b""))
    one.wait(lambda: total(one, "ended") == 1)


def test_too_many_names_in_a_worker(peer):
    one = peer(HANDLER)
    one.call(path="/many")
    one.wait(lambda: sum(dropped for *_, dropped in one.metrics) >= 37)
    assert len({(name, gauge) for name, _, gauge, dropped in one.metrics if not dropped}) == 64
    # "started" is one of the 64; "calls" and "depth" came too late
    assert sum(dropped for *_, dropped in one.metrics) == 37 + 2


def test_forked_processes_count_nothing(peer):
    """What a child of the handler counts is not the worker's, and its log still works."""
    one = peer(HANDLER)
    for _ in range(5):
        assert one.call(path="/fork").text == "x"
    one.wait(lambda: total(one, "calls") == 5)
    assert total(one, "forked") == 5
    assert [log.message for log in one.logs] == ["child"] * 5
