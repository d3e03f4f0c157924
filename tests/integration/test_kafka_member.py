"""Who the trigger is in its group: a static member of a name of its own."""

from collections.abc import Callable
from typing import Any

from kafka_client import Client
from kafka_function import RECORDER, Function, numbered
from stator_proc import patience, wait_until

CODE = RECORDER + """
def handler(context, event):
    note(event)
"""


def group_of(kafka: Client, group: str) -> Any:
    """Its description."""
    return kafka.admin.describe_consumer_groups([group])[group].result(patience(20))


def test_it_leaves_for_good(kafka: Client, function: Callable[..., Function]) -> None:
    """Nobody waits for its session when it has ended."""
    topic = kafka.create_topic(4)
    f = function(topic, CODE, attributes={"sessionTimeout": "45s"})
    kafka.produce(topic, numbered(40, 10))
    s = f.start()
    f.wait_for(40)
    member, = group_of(kafka, f.group).members
    assert member.group_instance_id.startswith("stator-")
    s.stop()
    assert group_of(kafka, f.group).members == []


def test_a_name_of_the_user(kafka: Client, function: Callable[..., Function]) -> None:
    """It stays in the group for the restart, which gets everything at once."""
    topic = kafka.create_topic(4)
    f = function(topic, CODE, attributes={"sessionTimeout": "45s", "groupInstanceId": "mine"})
    kafka.produce(topic, numbered(40, 10))
    s = f.start()
    f.wait_for(40)
    s.stop()
    member, = group_of(kafka, f.group).members
    assert member.group_instance_id == "mine"
    f.start()
    kafka.produce(topic, [(f"k{i}", "5") for i in range(10)])
    f.wait_for(50)
    f.check_order()


def test_fenced(kafka: Client, function: Callable[..., Function]) -> None:
    """Somebody comes with its name: fatal for librdkafka; another consumer goes on."""
    topic = kafka.create_topic(4)
    f = function(topic, CODE)
    kafka.produce(topic, numbered(40, 10))
    s = f.start()
    f.wait_for(40)
    member, = group_of(kafka, f.group).members
    thief = kafka.consumer(f.group, group_instance_id=member.group_instance_id,
                           session_timeout_ms=6000)
    thief.subscribe([topic])
    try:
        wait_until(lambda: thief.poll(0.1) or s.log("another one goes on"), 30, "a new consumer")
        thief.unsubscribe()
        wait_until(lambda: thief.poll(0.1) or thief.assignment() == [], 30, "it has gone")
    finally:
        thief.close()
    kafka.produce(topic, [(f"k{i}", "5") for i in range(10)])
    f.wait_for(50, 60)
    f.check_order()
    wait_until(lambda: not s.status()["degraded"], 30, "all is well")
    s.stop()
