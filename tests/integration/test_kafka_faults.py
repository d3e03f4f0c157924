"""Kafka and whoever dies or goes: nothing lost, order by key, repeats only where the docs say."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from kafka_broker import Broker
from kafka_client import Client
from kafka_function import RECORDER, SLEEPER, Function, children, numbered, size
from stator_proc import SLOWNESS, wait_until


@pytest.fixture(name="broker", scope="module")
def broker_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One that the tests of this file may kill, if they start it again."""
    with Broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker
        print(broker.log()[-5000:])     # shown where the last test has failed


def test_workers_die(kafka: Client, function: Callable[..., Function]) -> None:
    """kill -9 of workers: all is handled, in order, and only what was running is repeated."""
    count, kills = size(3000), 6
    topic = kafka.create_topic(8)
    f = function(topic)
    s = f.start()
    kafka.produce(topic, numbered(count, 50))
    done = 0
    while done < kills and len(f.places()) < count:
        pids = children(s)
        if pids:
            os.kill(random.choice(pids), signal.SIGKILL)
            done += 1
        time.sleep(0.1)
    f.wait_for(count, 60)
    f.check_order()
    repeats = sum(f.places().values()) - count
    assert repeats <= done * 2, "more than the killed workers had"
    f.wait_committed()


def test_a_worker_dies_in_a_part_of_a_batch(kafka: Client,
                                            function: Callable[..., Function]) -> None:
    """What of a batch the worker had not begun waits for what it died of: keys are in order."""
    count = size(400)
    code = RECORDER + """
import signal

def handler(context, batch):
    died = os.environ["OUT"] + ".died"
    if not os.path.exists(died):
        os.close(os.open(died, os.O_CREAT))
        os.kill(os.getpid(), signal.SIGKILL)
    for event in batch:
        note(event, size=len(batch))
    return [context.Response(body="", event_id=event.id) for event in batch]
"""
    topic = kafka.create_topic(1)
    f = function(topic, code, workers=2, retry={"maxAttempts": 9, "base": "2s"},
                 spec={"stator": {"ringBytes": "64Ki"}},  # so that a batch does not fit
                 batch={"mode": "enable", "batchSize": 100, "timeout": "200ms"})
    kafka.produce(topic, [(key, f"{body:<4000}") for key, body in numbered(count, 3)])
    f.start()
    f.wait_for(count, 60)
    f.check_order()
    f.wait_committed()
    assert set(f.places().values()) == {1}
    assert max(e["size"] for e in f.seen()) < 100


def test_processor_dies(kafka: Client, function: Callable[..., Function]) -> None:
    """kill -9 of the processor: what was done since the last commit is repeated, no more."""
    count = size(3000)
    topic = kafka.create_topic(4)
    f = function(topic, SLEEPER.replace("0.001", "0.004"))
    f.start()
    kafka.produce(topic, numbered(count, 40))
    f.wait_for(count // 3)
    f.started[-1].kill()
    before = sum(f.places().values())
    f.start()
    f.wait_for(count, 60)
    f.check_order()
    f.wait_committed()
    repeats = sum(f.places().values()) - count
    assert repeats <= 100 * SLOWNESS, f"{repeats} of {before}"


def test_clean_hand_over(kafka: Client, function: Callable[..., Function]) -> None:
    """Members join and leave: no message is lost and none is repeated, although lanes are uneven."""
    count = size(6000)
    messages = numbered(count, 30)
    topic = kafka.create_topic(8)
    f = function(topic)
    first = f.start()
    kafka.produce(topic, messages[:count // 2])
    f.wait_for(count // 6)
    second = f.start()
    wait_until(lambda: second.log("Partitions were assigned"), 30, "the second one has its share")
    kafka.produce(topic, messages[count // 2:])
    f.wait_for(count * 3 // 4, 60)
    first.stop()
    f.wait_for(count, 60)
    f.wait_committed()
    f.check_order()
    assert set(f.places().values()) == {1}
    second.stop()
    third = f.start()
    wait_until(lambda: third.log("Partitions were assigned"), 30, "the third one has them all")
    time.sleep(1)
    assert sum(f.places().values()) == count, "what was committed came again"


def test_sigterm_under_load(kafka: Client, function: Callable[..., Function]) -> None:
    """Positions are committed to the last message that was handled."""
    count = size(3000)
    topic = kafka.create_topic(4)
    f = function(topic)
    s = f.start()
    kafka.produce(topic, numbered(count, 40))
    f.wait_for(count // 3)
    s.stop()
    handled = f.places()
    assert len(handled) < count and set(handled.values()) == {1}
    f.start()
    f.wait_for(count, 60)
    f.check_order()
    assert set(f.places().values()) == {1}


def test_handlers_that_hang(kafka: Client, function: Callable[..., Function]) -> None:
    """Until eventTimeout: nothing is lost, other keys go on."""
    topic = kafka.create_topic(1)
    code = RECORDER + """
def handler(context, event):
    flag = os.environ["OUT"] + ".hung"
    if event.key == b"hang" and not os.path.exists(flag):
        open(flag, "w").close()
        time.sleep(1000)
    time.sleep(0.001)
    note(event)
"""
    f = function(topic, code, workers=3, spec={"eventTimeout": "1s"})
    kafka.produce(topic, [("hang", "1"), *[(f"k{i % 20}", str(i // 20 + 1)) for i in range(400)]])
    f.start()
    f.wait_for(401)
    f.check_order()
    assert set(f.places().values()) == {1}


def test_broker_hangs(broker: Broker, kafka: Client, function: Callable[..., Function]) -> None:
    """SIGSTOP of the broker for longer than a session: nothing is lost, order holds."""
    count = size(2000)
    topic = kafka.create_topic(4)
    f = function(topic)
    f.start()
    kafka.produce(topic, numbered(count, 20))
    f.wait_for(count // 4)
    broker.signal(signal.SIGSTOP)
    try:
        time.sleep(4)
    finally:
        broker.signal(signal.SIGCONT)
    f.wait_for(count, 60)
    f.check_order()
    f.wait_committed(30)


def test_partitions_are_added(kafka: Client, function: Callable[..., Function]) -> None:
    """New partitions are read without a restart."""
    topic = kafka.create_topic(1)
    f = function(topic, attributes={"librdkafka": {"topic.metadata.refresh.interval.ms": 1000}})
    kafka.produce(topic, numbered(50, 5))
    f.start()
    f.wait_for(50)
    kafka.add_partitions(topic, 3)
    kafka.produce(topic, [dict(key=f"new{p}", value="1", partition=p) for p in (1, 2)])
    f.wait_for(52, 60)


def test_partitions_are_added_while_others_go(kafka: Client,
                                              function: Callable[..., Function]) -> None:
    """librdkafka joins again before a processor has said that its handlers are done: what it takes
    away and gives meanwhile is void."""
    topic = kafka.create_topic(2)
    code = RECORDER + """
def handler(context, event):
    time.sleep(0.7)
    note(event)
"""
    f = function(topic, code, workers=2, attributes={"librdkafka": {
        "topic.metadata.refresh.interval.ms": 100}})
    kafka.produce(topic, [(f"k{i % 6}", str(i // 6 + 1)) for i in range(24)])
    first = f.start()
    wait_until(lambda: first.log("Partitions were assigned"), 30, "assigned")
    second = f.start()
    for total in range(3, 9):
        kafka.add_partitions(topic, total)
        time.sleep(0.3)
    f.wait_for(24, 60)
    f.check_order()
    f.wait_committed()
    assert first.is_running() and second.is_running()


def test_broker_comes_and_goes(broker: Broker, kafka: Client,
                               function: Callable[..., Function]) -> None:
    """Away at the start: ready all the same, degraded, then it works. Gone and back: nothing lost."""
    count = size(1000)
    topic = kafka.create_topic(4)
    kafka.produce(topic, numbered(count, 20))
    f = function(topic, attributes={"librdkafka": {"topic.metadata.refresh.interval.ms": 1000}})
    broker.kill()
    s = f.start()
    wait_until(lambda: s.status()["degraded"], 20, "degraded")
    assert (s.ready(), s.live()) == (200, 200)
    broker.start()
    f.wait_for(count, 60)
    broker.kill()
    broker.start()
    kafka.produce(topic, [(f"k{i % 20}", str(count // 20 + 1 + i // 20)) for i in range(count)])
    f.wait_for(2 * count, 60)
    wait_until(lambda: not s.status()["degraded"], 30, "all is well again")
    f.check_order()
    f.wait_committed(30)
