"""The kafka output against a real Kafka."""

import pytest
from http_raw import build_request
from kafka_broker import Broker
from kafka_client import Client
from kafka_function import RECORDER, numbered
from stator_proc import patience
from test_outputs import outputs, sink_fixture  # noqa: F401

WAYS = [("emit", {}), ("emit_blocking", {}), ("emit", {"isolation": "process"})]


@pytest.mark.parametrize("handler, more", WAYS, ids=["inline", "thread", "process"])
def test_delivered(start, broker, kafka, handler, more):
    """What a reply of 200 stands for lies in the topic: keys, values, headers, tombstones, order."""
    topic = kafka.create_topic(3)
    s = start(handler, own={"outputs": {"out": {
        "kind": "kafka", "brokers": [broker.address()], "topic": topic,
        "deliveryTimeout": f"{patience(30):g}s"}}} | more)
    for n in range(20):
        answer = s.request("GET", f"/?out,k{n % 3},{n}&out,-,none&out,k,-&out,,empty")
        assert (answer.status, answer.body) == (200, b"0 0 0 0 ")
    found = kafka.read(topic)
    assert len(found) == 80
    for key in (b"k0", b"k1", b"k2"):
        values = [int(m.value()) for m in found if m.key() == key]
        assert values == list(range(int(key[1:]), 20, 3))
    assert sum(m.key() is None and m.value() == b"none" for m in found) == 20
    assert sum(m.key() == b"k" and m.value() is None for m in found) == 20
    assert sum(m.key() == b"" and m.value() == b"empty" for m in found) == 20
    assert all(m.headers() == [("from", b"handler")] for m in found)


def test_broker_away_and_back(start, tmp_path):
    """The reply waits for the delivery; without it the event fails; then it works again."""
    with Broker(tmp_path) as broker:
        topic = Client(broker.address()).create_topic(1)
        out = {"kind": "kafka", "brokers": [broker.address()], "topic": topic}
        s = start("emit", own={"outputs": {
            "out": out | {"deliveryTimeout": f"{patience(60):g}s"},
            "short": out | {"deliveryTimeout": "500ms"}}})
        assert s.request("GET", "/?out,k,before").status == 200
        with s.connect() as c:
            with broker.paused():
                c.send(build_request("GET", "/?out,k,between"))
                answer = s.request("GET", "/?short,k,lost")
                assert answer.status == 500
                assert answer.body.startswith(b"emit to short failed: ")
                assert c.is_quiet(0.1)
            assert c.read_response().status == 200
        assert s.request("GET", "/?out,k,after").status == 200
        values = [m.value() for m in Client(broker.address()).read(topic)]
        assert [v for v in values if v != b"lost"] == [b"before", b"between", b"after"]


def test_emits_of_other_keys_do_not_wait(function, kafka):
    """One worker, one lane, emits that take their time: keys go on while others are confirmed."""
    topic, target = kafka.create_topic(1), kafka.create_topic(1)
    code = RECORDER + """
def handler(context, event):
    note(event)
    context.emit("out", event.body, key=event.key)
"""
    f = function(topic, code, workers=1, lanes=1, spec={"stator": {"outputs": {"out": {
        "kind": "kafka", "brokers": [kafka.bootstrap], "topic": target, "linger": "1s"}}}})
    kafka.produce(topic, numbered(600, 200))
    f.start()
    f.wait_for(600)
    f.check_order()
    f.wait_committed(30)
    first, *_, last = f.seen()
    assert last["at"] - first["at"] < patience(60)  # one after the other: 600 s
    keys: dict[bytes, list[bytes]] = {}
    for m in kafka.read(target, 600):
        keys.setdefault(m.key(), []).append(m.value())
    assert set(map(tuple, keys.values())) == {(b"1", b"2", b"3")}


def test_acknowledged_while_emits_are_under_way(function, kafka):
    """By the handler or after it: the position waits for both, and nothing is handled again."""
    topic, target = kafka.create_topic(2), kafka.create_topic(1)
    code = RECORDER + """
import asyncio
from nuclio_sdk import QualifiedOffset

async def later(context, place):
    await asyncio.sleep(0.2)
    await context.platform.explicit_ack(place)

TASKS = set()

async def handler(context, event):
    context.emit("out", event.body, key=event.key)
    place = QualifiedOffset.from_event(event)
    if event.offset % 2:
        await context.platform.explicit_ack(place)
    else:
        TASKS.add(asyncio.create_task(later(context, place)))
    note(event)
"""
    f = function(topic, code, workers=2, explicitAckMode="explicitOnly", spec={
        "stator": {"outputs": {"out": {"kind": "kafka", "brokers": [kafka.bootstrap],
                                       "topic": target, "linger": "1s"}}}})
    kafka.produce(topic, numbered(60, 60))
    s = f.start()
    f.wait_for(60)
    f.wait_committed(30)
    assert max(f.places().values()) == 1
    assert len(kafka.read(target, 60)) == 60
    assert s.metric("stator_retries_total") == 0


@pytest.mark.parametrize("workers", [1, 6])
def test_no_more_than_outputs_take(function, kafka, sink, workers):
    """An output that takes 8 messages at once, of handlers that are faster: they wait, none fails."""
    topic, count = kafka.create_topic(4), 300
    code = RECORDER + """
def handler(context, event):
    note(event)
    context.emit("sink", event.body, key=event.key)
"""
    f = function(topic, code, workers=workers, spec={"stator": outputs(sink, maxRequests=8)})
    kafka.produce(topic, numbered(count, 60))
    f.start()
    f.wait_committed(60)
    f.check_order()
    assert set(f.places().values()) == {1} and len(f.places()) == count
    assert sink.got.qsize() == count


def test_dead_letters_that_are_sent_again(start, kafka, sink):
    """They are what came, though a handler on the loop rejected it before it was copied."""
    topic, count = kafka.create_topic(1), 20
    kafka.produce(topic, [{"key": f"key-{n:04}", "value": "reject", "headers": {"n": f"{n:04}"}}
                          for n in range(count)])
    for _ in range(count):
        sink.answers.put(404)
    start("outcome", own=outputs(sink), spec={"triggers": {"k": {
        "kind": "kafka", "deadLetter": {"output": "sink"}, "attributes": {
            "topics": [topic], "brokers": [kafka.bootstrap], "consumerGroup": f"g-{topic}",
            "initialOffset": "earliest"}}}})
    found = [(headers["x-stator-key"], headers["n"], headers["st-error"], body)
             for _, _, headers, body in (sink.take() for _ in range(2 * count))]
    assert set(found) == {(f"key-{n:04}", f"{n:04}", "reject: poison", b"reject")
                          for n in range(count)}


@pytest.mark.parametrize("handler, more", [("relay", {}), ("relay_blocking", {}),
                                           ("relay", {"isolation": "process"})],
                         ids=["inline", "thread", "process"])
def test_headers_whenever_asked_for(function, kafka, handler, more):
    """At once, after the message was copied, in a second attempt, never, of a dead letter."""
    topic, dead, target = (kafka.create_topic(1) for _ in range(3))
    f = function(topic, handler=handler, workers=1, deadLetter={"topic": dead},
                 retry={"maxAttempts": 2, "base": "20ms"}, spec={"stator": more | {"outputs": {"out": {
                     "kind": "kafka", "brokers": [kafka.bootstrap], "topic": target}}}})
    sent = {body: [("h", body.encode()), ("content-type", b"text/x"), ("empty", b"")]
            for body in ("at once", "late", "again", "never", "reject")} | {"none": []}
    kafka.produce(topic, [dict(key=body, value=body, headers=headers)
                          for body, headers in sent.items()])
    f.start()
    f.wait_committed(30)
    found = {m.value().decode(): m for m in kafka.read(target, 5)}
    assert set(found) == {"first", "at once text/x", "late text/x", "again text/x", "none "}
    for body in ("at once", "late", "again"):
        again = found[f"{body} text/x"]
        assert (again.headers(), again.key()) == (sent[body], body.encode())
    assert found["none "].headers() in (None, []) and found["none "].key() is None
    letter = kafka.read(dead, 1)[0]
    assert letter.headers()[:3] == sent["reject"] and letter.value() == b"reject"
