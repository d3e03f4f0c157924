"""librdkafka's statistics as metrics, of the trigger and of what it writes to."""

from collections.abc import Callable

from kafka_client import Client
from kafka_function import RECORDER, Function
from stator_proc import wait_until

CODE = RECORDER + """
def handler(context, event):
    note(event)
    raise ValueError("to the dead letters")
"""


def test_statistics(kafka: Client, function: Callable[..., Function]) -> None:
    """They come, with one series a client; 0s turns them off."""
    topic, dead = kafka.create_topic(2), kafka.create_topic(1)
    f = function(topic, CODE, workers=1, attributes={"statisticsInterval": "200ms"},
                 retry={"maxAttempts": 1}, deadLetter={"topic": dead})
    kafka.produce(topic, [(f"k{i}", b"x" * 1000) for i in range(20)])
    s = f.start()
    f.wait_for(20)
    f.wait_committed()

    def value(name: str, **labels: str) -> float:
        found = s.metrics().find(f"stator_kafka_{name}", **labels)
        assert len(found) == 1, (name, labels, found)
        return next(iter(found.values()))

    wait_until(lambda: value("bytes_total", trigger_id="k", direction="received") > 20_000, 30, "read")
    wait_until(lambda: value("bytes_total", output="k.deadLetter", direction="sent") > 20_000, 30,
               "written")
    wait_until(lambda: value("broker_rtt_seconds", trigger_id="k") > 0, 30, "round trips")
    wait_until(lambda: value("requests_in_flight", trigger_id="k") > 0, 30, "a fetch that waits")
    wait_until(lambda: value("prefetched_messages", trigger_id="k") == 0, 30, "all handed out")
    wait_until(lambda: value("producer_messages", output="k.deadLetter") == 0, 30, "all confirmed")
    s.stop()
    f.trigger["attributes"]["statisticsInterval"] = "0s"
    assert not [x for x in f.start().metrics() if x.name.startswith("stator_kafka_")]
