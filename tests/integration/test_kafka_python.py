"""Python handlers of a real Kafka's messages: what they see, and what they say of them."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka_broker import Broker
from kafka_client import Client
from stator_proc import Stator, patience, python_options, wait_until

WORKERS = pytest.mark.parametrize("worker", ["native", "portable"])

# Each thing that a handler notes is one write to a file.
NOTE = """
    import asyncio, json, os
    import stator
    from nuclio_sdk import QualifiedOffset

    def note(*what):
        fd = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, json.dumps(what).encode() + b"\\n")
        os.close(fd)
"""


class Function:
    """A function in Python with one Kafka trigger, and its notes."""

    def __init__(self, folder: Path, broker: Broker, topic: str, worker: str, code: str,
                 **trigger: Any):
        self.folder, self.group = folder, f"g-{topic}"
        self.notes_file = folder / "notes"
        attributes = {"topics": [topic], "brokers": [broker.address()],
                      "consumerGroup": self.group, "initialOffset": "earliest"}
        stream = {"kind": "kafka-cluster", "attributes": attributes} | trigger
        self.options = python_options(
            folder, NOTE + code, worker, spec={"triggers": {"stream": stream}},
            env={"NOTES": str(self.notes_file)})
        self.options["spec"]["env"] = [*self.options["spec"].get("env", []),
                                       {"name": "NOTES", "value": str(self.notes_file)}]
        self.proc = self.start()

    def start(self) -> Stator:
        self.proc = Stator(self.folder, "", name=f"s{uuid.uuid4().hex[:6]}", **self.options)
        return self.proc

    def notes(self) -> list[Any]:
        if not self.notes_file.exists():
            return []
        lines = self.notes_file.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait_notes(self, count: int) -> list[Any]:
        wait_until(lambda: len(self.notes()) >= count, 30,
                   lambda: f"{count} notes: {self.notes()[-5:]}\n{self.proc.report()}")
        return self.notes()


@pytest.fixture(name="function")
def function_fixture(tmp_path: Path, broker: Broker) -> Any:
    made: list[Function] = []

    def make(topic: str, worker: str, code: str, **trigger: Any) -> Function:
        made.append(Function(tmp_path, broker, topic, worker, code, **trigger))
        return made[-1]

    try:
        yield make
        for one in made:
            one.proc.stop(patience(15))
    finally:
        for one in made:
            one.proc.kill()


Make = Callable[..., Function]


def wait_committed(kafka: Client, function: Function, topic: str, offset: int) -> None:
    wait_until(lambda: kafka.committed(function.group, topic).get(0) == offset, 30,
               lambda: f"offset {offset} committed: {kafka.committed(function.group, topic)}")


@WORKERS
def test_what_handlers_see(function: Make, kafka: Client, worker: str) -> None:
    topic = kafka.create_topic(1)
    kafka.produce(topic, [
        {"key": b"\xffk", "value": b"v", "headers": [("h", b"\xff\0"), ("Other", b"")],
         "timestamp": 1_600_000_000_123},
        {"key": "gone", "value": None}, {"value": b""}])
    f = function(topic, worker, """
    def handler(context, event):
        note(repr(event.body), repr(event.key), repr(event.headers), event.offset, event.shard_id,
             event.topic, event.path, event.timestamp_ns, str(event.timestamp), event.is_tombstone,
             event.attempt, event.trigger.kind)
    """)
    first, gone, empty = f.wait_notes(3)
    assert first == ["b'v'", repr(b"\xffk"), repr({"h": b"\xff\0", "Other": b""}), 0, 0, topic,
                     topic, 1_600_000_000_123_000_000, "2020-09-13 12:26:40", False, 1,
                     "kafka-cluster"]
    assert [gone[i] for i in (0, 1, 3, 9)] == ["b''", "b'gone'", 1, True]
    assert [empty[i] for i in (0, 1, 3, 9)] == ["b''", "b''", 2, False]
    wait_committed(kafka, f, topic, 3)


@WORKERS
def test_retry_and_reject(function: Make, kafka: Client, worker: str) -> None:
    """What is tried again holds up its key; what is rejected goes to the dead letters at once."""
    topic, dead = kafka.create_topic(1), kafka.create_topic(1)
    kafka.produce(topic, [("a", "1"), ("a", "again"), ("a", "bad"), ("a", "4")])
    f = function(topic, worker, """
    def handler(context, event):
        body = event.body.decode()
        note(body, event.attempt)
        if body == "again" and event.attempt < 3:
            raise stator.Retry(0.01, "not yet")
        if body == "bad":
            return stator.Reject("no good")
    """, retry={"maxAttempts": 5}, deadLetter={"topic": dead})
    assert f.wait_notes(6) == [["1", 1], ["again", 1], ["again", 2], ["again", 3], ["bad", 1],
                               ["4", 1]]
    wait_committed(kafka, f, topic, 4)
    letters = kafka.read(dead, 1)
    assert letters[0].value() == b"bad" and letters[0].key() == b"a"
    assert b"no good" in dict(letters[0].headers() or [])["st-error"]


@WORKERS
@pytest.mark.parametrize("mode", ["enable", "explicitOnly"])
def test_explicit_ack(function: Make, kafka: Client, worker: str, mode: str) -> None:
    """An acknowledgement covers those before it; what has none comes again."""
    topic = kafka.create_topic(1)
    kafka.produce(topic, [("a", str(n)) for n in range(10)])
    f = function(topic, worker, """
    async def handler(context, event):
        note(event.offset)
        if event.offset == 5:
            await context.platform.explicit_ack(QualifiedOffset.from_event(event))
        response = context.Response()
        if os.environ["MODE"] == "enable":
            response.ensure_no_ack()
        return response
    """.replace('os.environ["MODE"]', repr(mode)), explicitAckMode=mode,
                 attributes={"topics": [topic], "brokers": [kafka.bootstrap],
                             "consumerGroup": f"g-{topic}", "initialOffset": "earliest",
                             "workerAllocationMode": "static"})
    assert f.wait_notes(10) == [[n] for n in range(10)]
    wait_committed(kafka, f, topic, 6)
    f.proc.stop(patience(15))
    assert kafka.committed(f.group, topic) == {0: 6}
    f.start()
    assert f.wait_notes(14)[10:] == [[n] for n in range(6, 10)]


@WORKERS
def test_hostile_acknowledgements(function: Make, kafka: Client, worker: str) -> None:
    """Places that nobody knows, thousands of times, cover nothing; then each message has its own,
    and the largest offset that there is covers all that wait."""
    topic = kafka.create_topic(1)
    kafka.produce(topic, [("k", str(n)) for n in range(600)])
    f = function(topic, worker, """
    from stator._worker.control import FROM_WORKER, encode

    def say(places):
        packed = [encode(FROM_WORKER, {"acknowledge": {
            "topic": topic, "shard": shard, "offset": offset}}) for topic, shard, offset in places]
        data = b"".join([len(one).to_bytes(4, "little") + one for one in packed])
        while data:
            data = data[os.write(3, data):]

    seen = 0

    def handler(context, event):
        global seen
        seen += 1
        if seen == 200:
            say([("none", 0, 1), (event.topic, 1, 1), (event.topic, 2 ** 31 - 1, 2 ** 64 - 1),
                 ("x" * 1024, 0, 2 ** 63), (event.topic + "x", 0, 2 ** 64 - 1)] * 1000)
        if event.body == b"500":
            say([(event.topic, 0, n) for n in range(300)] * 3)
        if seen > 600:
            say([(event.topic, 0, 2 ** 64 - 1)])
        note(event.offset)
    """, explicitAckMode="explicitOnly")
    f.wait_notes(600)
    wait_committed(kafka, f, topic, 300)
    assert f.proc.metric("stator_worker_restarts_total") == 0
    kafka.produce(topic, [("k", "last")])
    f.wait_notes(601)
    wait_until(lambda: kafka.committed(f.group, topic)[0] >= 600, 30, "nearly all of them")


@WORKERS
def test_batches(function: Make, kafka: Client, worker: str) -> None:
    """Lists of messages, in the order of each key."""
    topic = kafka.create_topic(2)
    kafka.produce(topic, [(f"k{n % 7}", str(n)) for n in range(2000)])
    f = function(topic, worker, """
    def handler(context, events):
        note([[event.key.decode(), int(event.body)] for event in events])
        return [context.Response(event_id=event.id) for event in events]
    """, batch={"mode": "enable", "batchSize": 500, "timeout": "50ms"})
    wait_until(lambda: sum(len(batch) for (batch,) in f.notes()) >= 2000, 30, "all of them")
    batches = [batch for (batch,) in f.notes()]
    assert max(len(batch) for batch in batches) <= 500
    for key in {key for batch in batches for key, _ in batch}:
        values = [value for batch in batches for k, value in batch if k == key]
        assert values == sorted(values) and len(set(values)) == len(values)
