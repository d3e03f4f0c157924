"""A group that grows and shrinks under load, brokers of a cluster that die, compacted topics, keys that
wait for nobody."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka_broker import Broker, Cluster
from kafka_client import Client
from kafka_function import RECORDER, SLEEPER, Function, numbered, size
from stator_proc import SANITIZER, patience, wait_until


@pytest.fixture(name="broker", scope="module")
def broker_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One that compacts, and soon."""
    with Broker(tmp_path_factory.mktemp("kafka"), config={
            "log.cleaner.enable": "true", "log.cleaner.backoff.ms": 100}) as broker:
        yield broker


def test_one_three_one(kafka: Client, function: Callable[..., Function]) -> None:
    """Processors are added and taken away while messages come: none is lost, none repeated."""
    keys, rounds = 40, size(150)
    topic = kafka.create_topic(8)
    f = function(topic, SLEEPER.replace("0.001", "0.002"),
                 attributes={"sessionTimeout": "10s", "heartbeatInterval": "200ms"})
    halt = threading.Event()
    sent = 0

    def load() -> None:
        nonlocal sent
        while not halt.is_set():
            n = sent // keys + 1
            sent += kafka.produce(topic, [(f"k{k}", str(n)) for k in range(keys)])

    def grow() -> None:
        s = f.start()
        wait_until(lambda: s.log("Partitions were assigned"), 30, "it has its share")
        handled(rounds)

    def shrink() -> None:
        f.started[len(f.started) - sum(s.is_running() for s in f.started)].stop()
        handled(rounds)

    def handled(more: int) -> None:
        f.wait_for(len(f.places()) + more, 60)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for step in (grow, grow, grow, shrink, shrink):
            step()
    finally:
        halt.set()
        thread.join()
    f.wait_for(sent, 60)
    f.wait_committed()
    f.check_order()
    assert set(f.places().values()) == {1}


def test_paused_while_others_come_and_go(kafka: Client,
                                         function: Callable[..., Function]) -> None:
    """A partition whose window is full is paused; librdkafka remembers that beyond an assignment."""
    count = 600
    topic = kafka.create_topic(2)
    code = RECORDER + """
def handler(context, event):
    while not os.path.exists(os.environ["OUT"] + ".go"):
        time.sleep(0.02)
    note(event)
"""
    f = function(topic, code, workers=2, attributes={
        "window": 64, "maxWaitHandlerDuringRebalance": "50ms"})
    kafka.produce(topic, numbered(count, 40))
    first = f.start()
    wait_until(lambda: first.metrics().find("stator_source_pending"), 30, "assigned")
    wait_until(lambda: first.metric("stator_source_pending") >= 2 * 64, 30, "windows are full")
    time.sleep(1)
    second = f.start()
    wait_until(lambda: second.log("Partitions were assigned"), 30, "it has one of them")
    second.stop()
    wait_until(lambda: len(first.log("Partitions were assigned")) == 3, 30, "it has both again")
    (f.dir / "out.jsonl.go").touch()
    f.wait_for(count)
    f.check_order()
    f.wait_committed()


def test_full_queues_while_others_come_and_go(kafka: Client,
                                              function: Callable[..., Function]) -> None:
    """What librdkafka had fetched of a partition that was taken away may still lie in its queue
    when that comes back: it is thrown away, and nothing begins anew for that."""
    count = size(1500)
    topic = kafka.create_topic(2)
    code = RECORDER + """
def handler(context, event):
    time.sleep(0.002)
    note(event)
"""
    f = function(topic, code, workers=2, attributes={"window": 64, "prefetch": "256Ki"})
    kafka.produce(topic, [(f"k{i % 40}", b"x" * 4096) for i in range(count)])
    first = f.start()
    f.wait_for(count // 10)
    second = f.start()
    wait_until(lambda: second.log("Partitions were assigned"), 30, "it has one of them")
    f.wait_for(count // 5)
    second.stop()
    wait_until(lambda: len(first.log("Partitions were assigned")) >= 3, 30, "it has both again")
    f.wait_for(count)
    f.wait_committed()
    assert set(f.places().values()) == {1}


def test_queues_of_partitions_that_went(kafka: Client, function: Callable[..., Function]) -> None:
    """What was fetched of partitions that are somebody else's now takes no memory any more."""
    topic, partitions, prefetch = kafka.create_topic(8), 8, 256 << 10
    code = RECORDER + """
def handler(context, event):
    while not os.path.exists(os.environ["OUT"] + ".go"):
        time.sleep(0.02)
    note(event)
"""
    f = function(topic, code, workers=2, attributes={
        "window": 64, "prefetch": "256Ki", "fetchDefault": 65536, "statisticsInterval": "200ms",
        "maxWaitHandlerDuringRebalance": "50ms"})
    count = partitions * 160
    kafka.produce(topic, [dict(partition=i % partitions, key=f"k{i % 40}", value=b"x" * 4096)
                          for i in range(count)], batch_num_messages=10)
    first = f.start()

    def fetched() -> float:
        return sum(first.metrics().find("stator_kafka_prefetched_bytes").values())
    wait_until(lambda: fetched() >= partitions * prefetch, 30, "queues are full")
    second = f.start()
    wait_until(lambda: second.log("Partitions were assigned"), 30, "it has half of them")
    wait_until(lambda: fetched() < (partitions - 1) * prefetch, 30, "theirs are empty")
    (f.dir / "out.jsonl.go").touch()
    f.wait_for(count)
    f.wait_committed()


def test_compacted_topic(kafka: Client, function: Callable[..., Function]) -> None:
    """Offsets that are gone stop no position, and what is left comes once, in order."""
    topic = kafka.create_topic(1, cleanup_policy="compact", segment_ms=50, max_compaction_lag_ms=1,
                               min_cleanable_dirty_ratio="0.01")

    rand = random.Random(1)

    def compacted() -> bool:
        """Each round begins a segment, and makes some messages of the earlier ones old."""
        time.sleep(0.1)
        kafka.produce(topic, [(f"k{k}", "x") for k in rand.sample(range(100), 50)])
        offsets = [m.offset() for m in kafka.read(topic)]
        return offsets[-1] - offsets[0] > len(offsets) + 100
    wait_until(compacted, 60, "offsets are missing between others")
    f = function(topic)
    f.start()
    last = kafka.read(topic)[-1].offset()
    wait_until(lambda: kafka.committed(f.group, topic).get(0, 0) > last, 30, "all is committed")
    offsets = [e["offset"] for e in f.seen()]
    assert len(set(offsets)) == len(offsets) < last
    assert {m.offset() for m in kafka.read(topic)} <= set(offsets)


def test_keys_wait_for_nobody(kafka: Client, function: Callable[..., Function]) -> None:
    """While a handler hangs until eventTimeout, and its worker is ended, other keys go on."""
    topic = kafka.create_topic(1)
    code = RECORDER + """
def handler(context, event):
    note(event)
    if event.key == b"hang" and event.attempt == 1:
        time.sleep(1000)
"""
    f = function(topic, code, workers=3, lanes=64,
                 spec={"eventTimeout": f"{patience(3):g}s"})
    s = f.start()
    wait_until(lambda: s.log("Partitions were assigned"), 30, "assigned")
    kafka.produce(topic, [("hang", "1")])
    f.wait_for(1)
    sent, end = 0, time.monotonic() + patience(30)
    while f.places()[(0, 0)] < 2:
        sent += kafka.produce(topic, [(f"k{sent % 500}", "x")])
        assert time.monotonic() < end, "the message that hung came not again"
    f.wait_for(sent + 1)
    f.wait_committed()
    assert Counter(f.places().values()) == {1: sent, 2: 1}
    hung = [e["at"] for e in f.seen() if e["key"] == "hang"]
    others = [e["at"] for e in f.seen() if hung[0] <= e["at"] <= hung[1]]
    pause = max(b - a for a, b in zip(others, others[1:]))
    print(f"other keys paused for at most {pause:.3f} s")
    assert pause < patience(1.5), "they waited for the one that hung"


@pytest.mark.skipif(bool(SANITIZER), reason="three brokers are a lot where everything is slow")
def test_a_broker_of_three_dies(tmp_path: Path) -> None:
    """The leader of a partition, and of the group, is killed: others take over, nothing is lost."""
    count = 3000
    with Cluster(tmp_path) as cluster:
        kafka = Client(cluster.address())
        topic = kafka.create_topic(6, replicas=3)
        f = Function(tmp_path, kafka, topic, attributes={"sessionTimeout": "6s"})
        try:
            f.start()
            kafka.produce(topic, numbered(count, 60))
            f.wait_for(count // 4)
            cluster.nodes[0].signal(signal.SIGKILL)
            kafka.produce(topic, [(f"k{i % 60}", str(count // 60 + 1 + i // 60))
                                  for i in range(count)])
            f.wait_for(2 * count, 90)
            f.check_order()
            f.wait_committed(30)
            f.started[0].stop()
        finally:
            for s in f.started:
                s.kill()
