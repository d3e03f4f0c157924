"""What tests do with a Kafka from outside: topics, messages, the offsets of a group."""

import time
import uuid
from collections.abc import Iterable
from typing import Any

from confluent_kafka import (OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, KafkaError,
                             KafkaException, Message, Producer, TopicPartition)
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from stator_proc import patience

REQUEST_SECONDS = 20


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
        self._done(self.admin.create_topics([wanted], request_timeout=patience(REQUEST_SECONDS)))
        # A broker knows of it a moment later than the controller.
        end = time.monotonic() + patience(REQUEST_SECONDS)
        while self.partitions(name) != partitions:
            assert time.monotonic() < end, f"no topic {name}"
            time.sleep(0.02)
        return name

    def partitions(self, topic: str) -> int:
        """How many partitions with a leader there are, 0 for none."""
        found = self.admin.list_topics(topic, timeout=patience(REQUEST_SECONDS)).topics[topic]
        return 0 if found.error else sum(p.leader >= 0 for p in found.partitions.values())

    def add_partitions(self, topic: str, total: int) -> None:
        self._done(self.admin.create_partitions([NewPartitions(topic, total)]))

    def delete_topic(self, topic: str) -> None:
        self._done(self.admin.delete_topics([topic]))

    @staticmethod
    def _done(futures: dict[str, Any]) -> None:
        for future in futures.values():
            future.result(patience(REQUEST_SECONDS))

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
        parts = [TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(self.partitions(topic))]
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
                    else:
                        raise KafkaException(error)
        finally:
            consumer.close()
        return found

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Partition -> offset that the group has committed; those that it has."""
        parts = [TopicPartition(topic, p) for p in range(self.partitions(topic))]
        end = time.monotonic() + patience(REQUEST_SECONDS)
        while True:
            futures = self.admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, parts)])
            try:
                answer = next(iter(futures.values())).result(patience(REQUEST_SECONDS))
            except KafkaException:      # a broker that has just started still reads its groups
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
                continue
            return {p.partition: p.offset for p in answer.topic_partitions if p.offset >= 0}

    def lag(self, group: str, topic: str) -> int:
        """How many messages of the topic the group has not committed."""
        consumer = Consumer({**self.settings, "group.id": f"lag-{uuid.uuid4()}"})
        try:
            done, total = self.committed(group, topic), 0
            for p in range(self.partitions(topic)):
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, p),
                                                           patience(REQUEST_SECONDS))
                total += high - done.get(p, low)
            return total
        finally:
            consumer.close()

    def consumer(self, group: str, **settings: Any) -> Consumer:
        """A consumer of the group that begins at the beginning and commits when told."""
        return Consumer({**self.settings, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False,
                         **{k.replace("_", "."): v for k, v in settings.items()}})
