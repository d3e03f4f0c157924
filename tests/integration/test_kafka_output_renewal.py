"""A kafka output whose producer has failed for good: another one takes its place.

librdkafka gives up an idempotent producer when the broker expects another number than that of its
next message. A broker gets there that has lost what was not on its disk yet: here the end of the
partition's log is cut off while it is down.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from http_raw import build_request
from kafka_broker import Broker
from kafka_client import Client
from kafka_function import RECORDER, Function, numbered, size
from stator_proc import Stator, patience, wait_until

FAILED = "The producer can't go on"
RENEWALS = "stator_output_renewals_total"
FORWARD = RECORDER + """
def handler(context, event):
    note(event)
    context.emit("out", event.body, key=event.key)
"""


def log_of(broker: Broker, topic: str, partition: int = 0) -> Path:
    """What a partition has on the disk."""
    return broker.dir / "data" / f"{topic}-{partition}" / f"{0:020}.log"


def lose(broker: Broker, log: Path, keep: int) -> None:
    """The broker dies, and comes back with no more than so many bytes of the partition."""
    broker.kill()
    os.truncate(log, keep)
    broker.start()


def reasons(s: Stator) -> str:
    """Why it is degraded."""
    return "; ".join(s.status()["reasons"])


def test_another_producer(start: Callable[..., Stator], tmp_path: Path) -> None:
    """Fatal errors cost the messages that meet them; /status says so; then it works again."""
    with Broker(tmp_path) as broker:
        client = Client(broker.address())
        topic = client.create_topic(1)
        s = start("emit", admin=True, own={"outputs": {"out": {
            "kind": "kafka", "brokers": [broker.address()], "topic": topic,
            "deliveryTimeout": f"{patience(60):g}s"}}})

        def works() -> bool:
            """From both loops, most probably; a message that is refused at once has a code."""
            answers = [s.get("/?out,k,good") for _ in range(10)]
            return all((a.status, a.body) == (200, b"0 ") for a in answers)

        wait_until(works, 30, "messages are confirmed")
        said = ""
        for count in range(1, 4):  # each time it takes longer until the next producer is made
            log = log_of(broker, topic)
            keep = log.stat().st_size
            assert s.get("/?out,k,lost").status == 200
            lose(broker, log, keep)
            answer = s.get("/?out,k,failed")
            said = reasons(s)
            assert answer.status == 500 and b"sequence" in answer.body, answer.body
            assert (s.ready(), s.live()) == (200, 200)
            wait_until(works, 60, "messages are confirmed again")
            assert s.metric(RENEWALS, output="out") == count
            if said:
                break
        assert said.startswith("Output out: the producer failed and is being replaced: "), said
        wait_until(lambda: reasons(s) == "", 30, "all is well again")
        assert len(s.log(FAILED)) == s.metric(RENEWALS)
        values = [m.value() for m in client.read(topic)]
        assert set(values) == {b"good"}
        assert len(values) >= 20


def test_senders_of_all_loops(start: Callable[..., Stator], tmp_path: Path) -> None:
    """All at once, while the producer fails and is replaced: each request has its answer, and what
    was confirmed by the next one is there."""
    with Broker(tmp_path) as broker:
        client = Client(broker.address())
        topic = client.create_topic(4)
        s = start("emit", own={"loops": 4, "outputs": {"out": {
            "kind": "kafka", "brokers": [broker.address()], "topic": topic,
            "deliveryTimeout": f"{patience(60):g}s"}}})
        # One key, so one partition that can lose something.
        assert s.get("/?out,k,first").body == b"0 "
        part = next(m.partition() for m in client.read(topic))
        log = log_of(broker, topic, part)
        keep = log.stat().st_size
        assert s.get("/?out,k,lost").body == b"0 "
        lose(broker, log, keep)

        def send(sender: int) -> list[bytes]:
            """Until 20 are confirmed; those."""
            confirmed: list[bytes] = []
            end = time.monotonic() + patience(60)
            with s.connect(timeout=patience(60)) as c:
                for n in range(100_000):
                    assert time.monotonic() < end, s.report()
                    value = f"{sender}-{n}"
                    c.send(build_request("GET", f"/?out,k,{value}"))
                    answer = c.read_response()
                    if (answer.status, answer.body) == (200, b"0 "):
                        confirmed.append(value.encode())
                        if len(confirmed) == 20:
                            break
                    else:
                        time.sleep(0.01)
            return confirmed

        with ThreadPoolExecutor(16) as pool:
            confirmed = [value for done in pool.map(send, range(16)) for value in done]
        assert s.metric(RENEWALS, output="out") == 1
        assert set(confirmed) <= {m.value() for m in client.read(topic)}


def test_nothing_is_lost(tmp_path: Path) -> None:
    """Messages of a topic whose copies meet the error are handled again, in their order."""
    count = size(1000)
    with Broker(tmp_path) as broker:
        client = Client(broker.address())
        topic, target = client.create_topic(1), client.create_topic(1)
        f = Function(tmp_path, client, topic, FORWARD, attributes={"commitInterval": "100ms"},
                     retry={"maxAttempts": 50, "base": "50ms", "cap": "1s"},
                     deadLetter={"topic": client.create_topic(1)},
                     spec={"stator": {"outputs": {"out": {
                         "kind": "kafka", "brokers": [broker.address()], "topic": target,
                         "deliveryTimeout": f"{patience(60):g}s"}}}})
        client.produce(topic, numbered(20, 20))
        with f.start() as s:
            f.wait_committed(30)
            log = log_of(broker, target)
            keep = log.stat().st_size
            client.produce(topic, [("lost", "1")])
            f.wait_committed(30)
            lose(broker, log, keep)
            client.produce(topic, [(f"k{i % 20}", str(2 + i // 20)) for i in range(count)])
            f.wait_committed(60)
            assert s.metric(RENEWALS, output="out") == 1
            assert s.metric("stator_retries_total") > 0
            assert s.metric("stator_dead_letters_total") == 0
            assert "k.deadLetter" in s.status()["outputs"]
        f.check_order()
        last: dict[bytes, int] = defaultdict(int)
        for m in client.read(target):
            number = int(m.value())
            assert number <= last[m.key()] + 1
            last[m.key()] = max(last[m.key()], number)
        assert last == {b"k%d" % k: 1 + count // 20 for k in range(20)}


def test_brokers_away(start: Callable[..., Stator], tmp_path: Path) -> None:
    """It is a reason of `degraded` while messages wait, and not before."""
    with Broker(tmp_path) as broker:
        topic = Client(broker.address()).create_topic(1)
        s = start("emit", admin=True, own={"outputs": {"out": {
            "kind": "kafka", "brokers": [broker.address()], "topic": topic,
            "deliveryTimeout": f"{patience(120):g}s"}}})
        assert s.get("/?out,k,before").status == 200
        broker.kill()
        assert reasons(s) == ""
        with s.connect(timeout=patience(120)) as c:
            c.send(build_request("GET", "/?out,k,between"))
            wait_until(lambda: reasons(s).startswith("Output out: messages wait for brokers: "), 60,
                       "degraded")
            assert s.ready() == 200
            broker.start()
            assert c.read_response().status == 200
        wait_until(lambda: reasons(s) == "", 30, "all is well again")
