"""The Kafka that other tests stand on: real brokers, and the client that looks at them."""

from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from kafka_broker import NEXT_VERSION, PASSWORD, USER, Broker, Cluster
from kafka_client import Client
from stator_proc import SANITIZER, patience

# Nothing of ours is under test here: once is enough.
pytestmark = pytest.mark.skipif(bool(SANITIZER), reason="only in builds without a sanitizer")


def commit_all(client: Client, topic: str, group: str, count: int) -> None:
    """Reads so many messages in a group and commits them."""
    consumer = client.consumer(group)
    try:
        consumer.subscribe([topic])
        seen = 0
        while seen < count:
            found = consumer.consume(count - seen, patience(30))
            assert found, f"{seen} of {count}"
            assert not any(m.error() for m in found)
            seen += len(found)
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()


def test_messages_and_offsets(kafka: Client) -> None:
    topic = kafka.create_topic(3)
    assert kafka.produce(topic, [(f"k{i % 7}", f"{i}") for i in range(500)]) == 500
    found = kafka.read(topic)
    assert sorted(int(m.value()) for m in found) == list(range(500))
    for key in {m.key() for m in found}:
        values = [int(m.value()) for m in found if m.key() == key]
        assert values == sorted(values)
    group = f"g-{topic}"
    assert kafka.committed(group, topic) == {}
    commit_all(kafka, topic, group, 500)
    assert sum(kafka.committed(group, topic).values()) == 500
    kafka.add_partitions(topic, 4)
    kafka.delete_topic(topic)


def test_restart_and_pause(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        client = Client(broker.address())
        topic = client.create_topic(2)
        client.produce(topic, [("a", "1"), ("b", "2")])
        commit_all(client, topic, "g", 2)
        broker.kill()
        broker.start()
        assert sum(client.committed("g", topic).values()) == 2
        with broker.paused(), pytest.raises(KafkaException):
            Client(broker.address()).admin.list_topics(timeout=1)
        client.produce(topic, ["3"])
        assert len(client.read(topic)) == 3
        broker.stop()


def test_logins(tmp_path: Path) -> None:
    with Broker(tmp_path, secure=True, version=NEXT_VERSION) as broker:
        assert broker.pki is not None
        ca = str(broker.pki.ca)
        secret = {"sasl_username": USER, "sasl_password": PASSWORD}
        tls = {"security_protocol": "sasl_ssl", "ssl_ca_location": ca}
        good = [
            ("SASL_SSL", {**tls, **secret, "sasl_mechanism": "SCRAM-SHA-256"}),
            ("SASL_PLAINTEXT", {"security_protocol": "sasl_plaintext", **secret,
                                "sasl_mechanism": "SCRAM-SHA-512"}),
            ("SASL_PLAINTEXT", {"security_protocol": "sasl_plaintext", **secret,
                                "sasl_mechanism": "PLAIN"}),
            ("SSL", {"security_protocol": "ssl", "ssl_ca_location": ca,
                     "ssl_certificate_location": str(broker.pki.cert),
                     "ssl_key_location": str(broker.pki.key)}),
        ]
        for listener, settings in good:
            client = Client(broker.address(listener), **settings)
            topic = client.create_topic(1)
            client.produce(topic, ["x"])
            assert [m.value() for m in client.read(topic)] == [b"x"]
        wrong = [
            ("SASL_SSL", {**good[0][1], "sasl_password": "wrong"}),
            ("SASL_SSL", {**good[0][1], "ssl_ca_location": str(broker.pki.other_ca)}),
            ("SSL", {"security_protocol": "ssl", "ssl_ca_location": ca}),
        ]
        for listener, settings in wrong:
            with pytest.raises(KafkaException):
                Client(broker.address(listener), **settings).admin.list_topics(timeout=2)


def test_three_nodes(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        client = Client(cluster.address())
        topic = client.create_topic(3)
        client.produce(topic, ["1", "2", "3"])
        cluster.nodes[0].kill()
        client.produce(topic, ["4", "5", "6"])
        assert len(client.read(topic, 6)) == 6
