"""Metrics of handlers: what /metrics has of them."""

from stator_proc import wait_until

COUNT, GAUGE = "stator_handler_total", "stator_handler_gauge"
DROPPED = "stator_handler_metrics_dropped_total"

HANDLER = """
    def init_context(context):
        context.metrics.count("started")

    def handler(context, event):
        if event.path == "/many":
            for i in range(100):
                context.metrics.count(f"n{i}")
        context.metrics.count("orders")
        context.metrics.count("bytes", event.size + 0.5)
        context.metrics.gauge("depth", -event.size)
        return context.worker_id
"""


def shown(s, name, /, **labels):
    """metric() of a series that may not be there yet."""
    return sum(s.metrics().find(name, **labels).values())


def wait_shown(s, value, name, /, **labels):
    wait_until(lambda: shown(s, name, **labels) == value, what=f"{name}{labels}: {value}")


def test_counters_and_gauges(python):
    s = python(HANDLER, workers=2)
    wait_shown(s, 2, COUNT, name="started", function="test")
    last = {}
    for i in range(50):
        last[s.post(b"x" * i).body.decode()] = -i
    wait_shown(s, 50, COUNT, name="orders", function="test")
    wait_shown(s, sum(range(50)) + 25, COUNT, name="bytes")
    for worker, depth in last.items():
        wait_shown(s, depth, GAUGE, name="depth", worker=worker, function="test")
    assert s.metric(DROPPED) == 0


def test_counters_outlive_their_worker(python):
    """What it counted last arrives before it ends; the next one goes on."""
    s = python(HANDLER, own={"maxRequests": 5})
    for _ in range(30):
        assert s.post(b"x").status == 200
    wait_shown(s, 30, COUNT, name="orders")
    wait_shown(s, 45, COUNT, name="bytes")
    assert s.metric(COUNT, name="started") >= 2


def test_too_many_names(python):
    s = python(HANDLER)
    for _ in range(2):
        s.request("GET", "/many")
    wait_shown(s, 2 * 37 + 2 * 3, DROPPED, function="test")
    samples = s.metrics()
    assert len(samples.find(COUNT)) + len(samples.find(GAUGE)) == 64
    assert len(s.log("too many names of metrics")) == 1
