"""What tests do with a Kafka from outside: topics, messages, the offsets of a group."""

import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import (OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message,
                             Producer, TopicPartition)
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from stator_proc import patience

REQUEST_SECONDS = 20    # with all that is tried again
ANSWER_SECONDS = 10     # one try
# Errors of a request after which the same may succeed.
PASSING = {KafkaError._DESTROY_BROKER, KafkaError._TRANSPORT, KafkaError._TIMED_OUT,
           KafkaError._TIMED_OUT_QUEUE, KafkaError._ALL_BROKERS_DOWN, KafkaError.REQUEST_TIMED_OUT,
           KafkaError.NOT_CONTROLLER, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR,
           KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS}


class Client:
    """Client("host:port", **settings of librdkafka with _ for .); its calls wait for the answer."""

    def __init__(self, bootstrap: str, **settings: Any):
        self.bootstrap = bootstrap
        self.settings = {"bootstrap.servers": bootstrap, "broker.address.family": "v4",
                         "log_level": 2, **{k.replace("_", "."): v for k, v in settings.items()}}
        self.admin = AdminClient(self.settings)

    def create_topic(self, partitions: int = 1, name: str | None = None, replicas: int = -1,
                     **config: Any) -> str:
        """A new topic, of a name of its own unless given; config: cleanup_policy="compact"."""
        name = name or f"t-{uuid.uuid4().hex[:12]}"
        wanted = NewTopic(name, partitions, replicas,
                          config={k.replace("_", "."): str(v) for k, v in config.items()})
        self._ask(lambda: self.admin.create_topics([wanted]), KafkaError.TOPIC_ALREADY_EXISTS)
        self._wait_partitions(name, partitions)
        return name

    def _wait_partitions(self, topic: str, count: int) -> None:
        """A broker knows of them a moment later than the controller."""
        end = time.monotonic() + patience(REQUEST_SECONDS)
        while self.partitions(topic) != count:
            assert time.monotonic() < end, f"{topic} has not {count} partitions"
            time.sleep(0.02)

    def partitions(self, topic: str) -> int:
        """How many partitions with a leader there are, 0 for none."""
        found = self._again(lambda: self.admin.list_topics(topic, timeout=ANSWER_SECONDS))
        found = found.topics[topic]
        return 0 if found.error else sum(p.leader >= 0 for p in found.partitions.values())

    def _numbers(self, topic: str) -> range:
        """Of its partitions, once each has a leader; none where there is no such topic."""
        def ask() -> range:
            found = self.admin.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
            if found.error and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return range(0)
            if found.error or any(p.leader < 0 for p in found.partitions.values()):
                raise KafkaException(found.error or KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
            return range(len(found.partitions))
        return self._again(ask)

    def add_partitions(self, topic: str, total: int) -> None:
        self._ask(lambda: self.admin.create_partitions([NewPartitions(topic, total)]),
                  KafkaError.INVALID_PARTITIONS)
        self._wait_partitions(topic, total)

    def delete_topic(self, topic: str) -> None:
        self._ask(lambda: self.admin.delete_topics([topic]), KafkaError.UNKNOWN_TOPIC_OR_PART)

    def _ask(self, operation: Callable[[], dict[str, Any]], done_before: int) -> None:
        """Has the cluster do something; done_before: what it says where an earlier request, whose
        answer was lost, had done it."""
        asked = 0

        def ask() -> None:
            nonlocal asked
            asked += 1
            for future in operation().values():
                try:
                    future.result(ANSWER_SECONDS)
                except KafkaException as e:
                    if asked == 1 or e.args[0].code() != done_before:
                        raise

        self._again(ask)

    @staticmethod
    def _again(ask: Callable[[], Any]) -> Any:
        """ask()'s answer. A client that has just met a cluster exchanges the address that it was
        given for the nodes that it was told of, and what it asks meanwhile may fail; so may what
        it asks a broker that has just started. Such an error passes; any other is raised."""
        end = time.monotonic() + patience(REQUEST_SECONDS)
        while True:
            try:
                return ask()
            except (KafkaException, TimeoutError) as e:
                passes = isinstance(e, TimeoutError) or e.args[0].code() in PASSING
                if not passes or time.monotonic() > end:
                    raise
            time.sleep(0.1)

    def produce(self, topic: str, messages: Iterable[Any], **settings: Any) -> int:
        """Sends them all and waits until each is confirmed; returns how many. A message is a value,
        a (key, value), or a dict with arguments of Producer.produce()."""
        failed: list[KafkaError] = []
        producer = Producer({**self.settings, "linger.ms": 5, "enable.idempotence": True,
                             **{k.replace("_", "."): v for k, v in settings.items()}})

        def report(error: KafkaError | None, _message: Message) -> None:
            if error:
                failed.append(error)

        count = 0
        for message in messages:
            if isinstance(message, tuple):
                message = {"key": message[0], "value": message[1]}
            elif not isinstance(message, dict):
                message = {"value": message}
            while True:
                try:
                    producer.produce(topic, on_delivery=report, **message)
                    break
                except BufferError:
                    producer.poll(0.1)
            count += 1
        left = producer.flush(patience(60))
        assert left == 0 and not failed, f"{left} not confirmed, {failed[:3]}"
        return count

    def read(self, topic: str, count: int | None = None, seconds: float = 30,
             **settings: Any) -> list[Message]:
        """The messages of a topic from its beginning: count of them, or all that are there now.
        Those of one partition are in order."""
        consumer = Consumer({**self.settings, "group.id": f"reader-{uuid.uuid4()}",
                             "enable.auto.commit": False, "enable.partition.eof": True,
                             **{k.replace("_", "."): v for k, v in settings.items()}})
        parts = [TopicPartition(topic, p, OFFSET_BEGINNING) for p in self._numbers(topic)]
        consumer.assign(parts)
        found: list[Message] = []
        ended: set[int] = set()
        end = time.monotonic() + patience(seconds)
        try:
            while len(found) < count if count is not None else len(ended) < len(parts):
                assert time.monotonic() < end, f"{len(found)} of {count} messages of {topic}"
                for message in consumer.consume(1000, 0.2):
                    error = message.error()
                    if error is None:
                        found.append(message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        ended.add(message.partition())
                    elif error.code() not in PASSING:
                        raise KafkaException(error)
        finally:
            consumer.close()
        return found

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Partition -> offset that the group has committed; those that it has. Asked as a consumer
        that never joins: an AdminClient crashes where the coordinator is still loading."""
        parts = [TopicPartition(topic, p) for p in self._numbers(topic)]
        consumer = Consumer({**self.settings, "group.id": group})
        try:
            found = self._again(lambda: consumer.committed(parts, ANSWER_SECONDS)) if parts else []
        finally:
            consumer.close()
        return {p.partition: p.offset for p in found if p.offset >= 0}

    def lag(self, group: str, topic: str) -> int:
        """How many messages of the topic the group has not committed."""
        consumer = Consumer({**self.settings, "group.id": f"lag-{uuid.uuid4()}"})
        try:
            done, total = self.committed(group, topic), 0
            for p in self._numbers(topic):
                part = TopicPartition(topic, p)
                low, high = self._again(
                    lambda part=part: consumer.get_watermark_offsets(part, ANSWER_SECONDS))
                total += high - done.get(p, low)
            return total
        finally:
            consumer.close()

    def consumer(self, group: str, **settings: Any) -> Consumer:
        """A consumer of the group that begins at the beginning and commits when told."""
        return Consumer({**self.settings, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False,
                         **{k.replace("_", "."): v for k, v in settings.items()}})
