"""Topics that the kafka trigger finds while it runs: they need no restart."""

import uuid
from collections.abc import Callable

from kafka_client import Client
from kafka_function import Function
from stator_proc import wait_until


def test_regular_expression(kafka: Client, function: Callable[..., Function]) -> None:
    """A pattern takes topics that are made later, and no others."""
    name = f"re-{uuid.uuid4().hex[:8]}"
    first = kafka.create_topic(1, name=f"{name}-a")
    f = function(first, attributes={"topics": [f"^{name}-.*"],
                                    "librdkafka": {"topic.metadata.refresh.interval.ms": 500}})
    kafka.produce(first, [("k", "1")])
    f.start()
    f.wait_for(1)
    other = kafka.create_topic(1, name=f"other-{name}-b")
    second = kafka.create_topic(1, name=f"{name}-b")
    kafka.produce(other, [("k", "no")])
    kafka.produce(second, [("k", "2")])
    wait_until(lambda: {e["body"] for e in f.seen()} == {"1", "2"}, 30, "the later topic")
    wait_until(lambda: kafka.lag(f.group, second) == 0, 10, "no lag")
    assert kafka.committed(f.group, other) == {}


def test_made_later(kafka: Client, function: Callable[..., Function]) -> None:
    """A topic that isn't there at the start, and partitions that are added, by the default alone."""
    topic = f"later-{uuid.uuid4().hex[:8]}"
    f = function(topic)
    s = f.start()
    wait_until(lambda: s.ready() == 200, 20, "ready without a topic")
    kafka.create_topic(1, name=topic)
    kafka.produce(topic, [("k", "1")])
    f.wait_for(1, 60)
    kafka.add_partitions(topic, 4)
    wait_until(lambda: kafka.partitions(topic) == 4, 20, "partitions")
    kafka.produce(topic, [dict(key=f"k{i}", value="x", partition=i) for i in range(4)])
    f.wait_for(5, 60)
    assert {shard for shard, _ in f.places()} == {0, 1, 2, 3}
