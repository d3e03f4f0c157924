"""Control messages of a hostile worker: what breaks the rules of docs/wire.md costs that worker,
what does not make sense is ignored, and the processor goes on. The handler is the one who writes."""

import struct

import pytest
from protobuf import number, text, varint
from stator_proc import Stator, python_options

HANDLER = """
    import os

    def write(data):
        while data:
            data = data[os.write(3, data):]

    def init_context(context):
        write(bytes.fromhex(os.environ.get("SAY", "")) * int(os.environ.get("TIMES", 1)))

    def handler(context, event):
        write(event.body)
        return str(os.getpid())
"""
RESTARTS = "stator_worker_restarts_total"


# FromWorker, see runtimes/proto/worker.proto

def message(kind, content):
    content = text(kind, content)
    return struct.pack("<I", len(content)) + content


def metric(name, value, gauge=0, dropped=0):
    return message(5, text(1, name) + varint(2 << 3 | 1) + struct.pack("<d", value)
                   + number(3, gauge) + number(4, dropped))


def acknowledge(topic, shard, offset):
    return message(8, text(1, topic) + number(2, shard) + number(3, offset))


BROKEN = {
    "name-empty": metric(b"", 1),
    "name-digit": metric(b"0a", 1),
    "name-quote": metric(b'a"} 1\nx 1', 1),
    "name-long": metric(b"a" * 65, 1),
    "name-huge": metric(b"a" * 1000000, 1),
    "count-negative": metric(b"a", -1),
    "count-nan": metric(b"a", float("nan")),
    "count-infinite": metric(b"a", float("inf")),
    "gauge-nan": metric(b"a", float("nan"), 1),
    "gauge-infinite": metric(b"a", -float("inf"), 1),
    "dropped-without-name": metric(b"", 0, 0, 5),
    "topic-empty": acknowledge(b"", 0, 1),
    "topic-none": message(8, b""),
    "topic-long": acknowledge(b"t" * 1025, 0, 1),
    "shard-large": acknowledge(b"t", 1 << 31, 1),
    "shard-largest": acknowledge(b"t", (1 << 32) - 1, 1),
}
HARMLESS = {
    "acknowledge": acknowledge(b"t", 0, 1),
    "acknowledge-longest": acknowledge(b"t" * 1024, (1 << 31) - 1, (1 << 64) - 1),
    "acknowledge-often": acknowledge(b"t", 0, 1) * 20000,
    "metrics-often": metric(b"a", 1e308) * 20000,
    "metrics-dropped": metric(b"a", 0, 0, (1 << 64) - 1) * 3,
    "of-a-later-version": message(99, b"x") + message(5, text(1, b"a") + text(1000, b"x")),
}


@pytest.fixture(name="hostile", scope="module", params=["native", "portable"])
def hostile_fixture(request, tmp_path_factory):
    """A processor whose workers write what they are sent to the control socket."""
    folder = tmp_path_factory.mktemp("hostile")
    s = Stator(folder, "", workers=2, **python_options(folder, HANDLER, request.param))
    try:
        yield s
        s.stop()
    finally:
        s.kill()


def is_alive(s):
    return s.post(b"").status == 200


@pytest.mark.parametrize("case", BROKEN)
def test_broken(hostile, case):
    """The worker is ended; its event is answered, by one or the other."""
    s = hostile
    before = s.metric(RESTARTS, reason="protocol")
    assert s.post(BROKEN[case]).status in (200, 500)
    s.wait_metric(before + 1, RESTARTS, reason="protocol")
    assert is_alive(s)


@pytest.mark.parametrize("case", HARMLESS)
def test_harmless(hostile, case):
    s = hostile
    before = s.metric(RESTARTS)
    pid = s.post(HARMLESS[case]).body
    assert int(pid) > 0
    assert is_alive(s)
    s.metrics()  # is still what a scraper reads
    assert s.metric(RESTARTS) == before


@pytest.mark.parametrize("case", ["acknowledge-longest", "metrics-dropped"])
def test_harmless_before_ready(python, case):
    s = python(HANDLER, spec={"env": [{"name": "SAY", "value": HARMLESS[case].hex()},
                                      {"name": "TIMES", "value": "5000"}]})
    assert is_alive(s)


@pytest.mark.parametrize("case, why", [
    ("topic-empty", "it acknowledges what is no place in a stream"),
    ("shard-large", "it acknowledges what is no place in a stream"),
    ("count-nan", "a metric has no such value"),
    ("name-digit", "a metric's name breaks the rules")])
def test_broken_before_ready(python, case, why):
    """Nothing half started."""
    s = python(HANDLER, ready=False,
               spec={"env": [{"name": "SAY", "value": BROKEN[case].hex()}]})
    assert s.wait() == 1
    assert why in s.stderr()
