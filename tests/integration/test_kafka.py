"""The kafka trigger against a real broker: what handlers get, outcomes, order, bounds."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from kafka_client import Client
from kafka_function import RECORDER, Function, numbered, size
from stator_proc import SANITIZER, Stator, patience, wait_until


def test_fields(kafka: Client, function: Callable[..., Function]) -> None:
    """What a message carries; tombstones, empty values, no key, a large value."""
    code = RECORDER + """
def handler(context, event):
    note(event, topic=event.path, size=len(event.body), kind=event.trigger.kind,
         headers={k: v.decode() if isinstance(v, bytes) else v for k, v in event.headers.items()})
"""
    topic = kafka.create_topic(1, max_message_bytes=12_000_000)
    big = size(10 << 20)
    kafka.produce(topic, [dict(key="k", value="v", headers={"a": "1", "content-type": "text/x"}), (None, "no key"),
                           ("k", ""), ("gone", None), ("big", b"x" * big)],
                  message_max_bytes=16_000_000)
    f = function(topic, code, workers=1)
    f.start()
    f.wait_for(5)
    first, no_key, empty, gone, large = sorted(f.seen(), key=lambda e: e["offset"])
    assert (first["key"], first["body"], first["offset"]) == ("k", "v", 0)
    assert first["headers"] == {"a": "1", "content-type": "text/x"}
    assert (first["topic"], first["kind"]) == (topic, "kafka-cluster")
    assert no_key["key"] is None and no_key["body"] == "no key"
    assert (empty["size"], gone["size"], gone["key"]) == (0, 0, "gone")
    assert large["size"] == big
    f.wait_committed()


def test_headers(kafka: Client, function: Callable[..., Function]) -> None:
    """Up to 1024 of a message come, to a handler and with its dead letter; what is cut is told."""
    code = RECORDER + """
def handler(context, event):
    names = list(event.headers)
    note(event, count=len(names), first=names[:1], last=names[-1:], type=event.content_type)
    if event.key == b"fails":
        raise ValueError("no good")
"""
    topic, dead = kafka.create_topic(1), kafka.create_topic(1)

    def headers(count: int) -> list[tuple[str, bytes]]:
        return [(f"h{i}", str(i).encode()) for i in range(count)]

    kafka.produce(topic, [dict(key="all", value="", headers=headers(1024)), dict(key="none", value=""),
                          dict(key="more", value="", headers=headers(1030)),
                          dict(key="long", value="", headers=[("n" * 65536, b""), ("x" * 65535, b"")]),
                          dict(key="fails", value="", headers=headers(300)),
                          dict(key="typed", value="", headers=headers(300)
                               + [("Content-Type", b"text/x-behind")])])
    f = function(topic, code, workers=1, retry={"maxAttempts": 1}, deadLetter={"topic": dead})
    s = f.start()
    f.wait_for(6)
    f.wait_committed()
    seen = {e["key"]: e for e in f.seen()}
    assert {key: e["count"] for key, e in seen.items()} == {
        "all": 1024, "none": 0, "more": 1024, "long": 1, "fails": 300, "typed": 301}
    assert seen["typed"]["type"] == "text/x-behind"
    assert seen["more"]["first"] == ["h0"] and seen["more"]["last"] == ["h1023"]
    assert seen["long"]["first"] == ["x" * 65535]
    letter = kafka.read(dead)[0].headers()
    assert letter[:300] == headers(300) and len(letter) == 306
    said = s.wait_log("Headers of a message are left out")
    assert (said["topic"], said["partition"], said["offset"]) == (topic, 0, 2)


POISON = RECORDER + """
def handler(context, event):
    note(event)
    body = event.body.decode()
    if body == "throw":
        raise ValueError("no good")
    if body == "exit":
        os._exit(3)
    if body == "hang":
        time.sleep(1000)
"""


def test_dead_letters(kafka: Client, function: Callable[..., Function]) -> None:
    """What fails again and again is put aside as it was, with its story; others go on meanwhile."""
    topic, dead = kafka.create_topic(1), kafka.create_topic(1)
    f = function(topic, POISON, workers=2, retry={"maxAttempts": 3, "base": "20ms"},
                 deadLetter={"topic": dead}, spec={"eventTimeout": "500ms"})
    kafka.produce(topic, [dict(key="bad", value="throw", headers={"h": "1"}), ("bad", "after throw"), ("bad", "exit"),
                           ("bad", "after exit"), ("bad", "hang"), ("bad", "after hang"),
                           ("bad", None), *[(f"good{i}", str(i)) for i in range(20)]])
    s = f.start()
    f.wait_for(27)
    f.wait_committed()
    letters = kafka.read(dead)
    assert [(m.key(), m.value()) for m in letters] == [
        (b"bad", b"throw"), (b"bad", b"exit"), (b"bad", b"hang")]
    for letter, offset, reason in zip(letters, (b"0", b"2", b"4"), (b"error", b"crash", b"timeout"),
                                      strict=True):
        headers = dict(letter.headers())
        assert headers["st-src-topic"] == topic.encode()
        assert (headers["st-src-partition"], headers["st-src-offset"]) == (b"0", offset)
        assert headers["st-attempts"] == b"3" and headers["st-error"].startswith(reason)
    assert dict(letters[0].headers())["h"] == b"1"
    assert b"no good" in dict(letters[0].headers())["st-error"]
    bad = [e["body"] for e in f.seen() if e["key"] == "bad"]
    assert bad == ["throw"] * 3 + ["after throw"] + ["exit"] * 3 + ["after exit"] \
        + ["hang"] * 3 + ["after hang", ""]
    assert s.metric("stator_dead_letters_total") == 3
    assert s.metric("stator_retries_total") == 6
    # The good keys did not wait for the bad one.
    at = {e["body"]: e["at"] for e in f.seen() if e["key"] != "bad"}
    end = max(e["at"] for e in f.seen() if e["key"] == "bad")
    assert max(at.values()) < end


def test_without_a_policy(kafka: Client, function: Callable[..., Function]) -> None:
    """As Nuclio: an exception is acknowledged, but logged and counted. A crash is never skipped."""
    topic = kafka.create_topic(1)
    code = POISON.replace('os._exit(3)', """
        flag = os.environ["OUT"] + ".crashed"
        if not os.path.exists(flag):
            open(flag, "w").close()
            os._exit(3)""")
    f = function(topic, code, workers=1)
    kafka.produce(topic, [("a", "throw"), ("a", "exit"), ("a", "last")])
    s = f.start()
    f.wait_for(3)
    f.wait_committed()
    assert [e["body"] for e in f.seen()] == ["throw", "exit", "exit", "last"]
    assert s.metric("stator_acknowledged_failures_total") == 1
    assert s.log("is acknowledged")[0]["message"]


def test_stops_where_nothing_is_left_to_do(kafka: Client,
                                           function: Callable[..., Function]) -> None:
    """retry without deadLetter: the key stops, /status says so, the position stays."""
    topic = kafka.create_topic(1)
    f = function(topic, POISON, workers=1, retry={"maxAttempts": 2, "base": "10ms"})
    kafka.produce(topic, [("a", "throw"), ("a", "behind"), ("b", "other")])
    s = f.start()
    wait_until(lambda: s.status()["degraded"], 20, "degraded")
    assert any("offset 0" in reason for reason in s.status()["reasons"])
    wait_until(lambda: len(f.seen()) == 3, 20, "the other key goes on")
    assert Counter(e["body"] for e in f.seen()) == {"throw": 2, "other": 1}
    assert s.log("stops its key")[0]["offset"] == 0
    assert s.ready() == 200
    s.stop()
    assert kafka.committed(f.group, topic).get(0, 0) == 0
    f.start()
    wait_until(lambda: len(f.seen()) == 5, 20, "tried again; the other one is not repeated")
    assert [e["body"] for e in f.seen()][3:] == ["throw", "throw"]



def test_aborted_transactions(kafka: Client, function: Callable[..., Function]) -> None:
    """They are invisible, and the gaps of their markers stop no position."""
    topic = kafka.create_topic(1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(patience(60))
    for i, commit in enumerate((True, False, True)):
        producer.begin_transaction()
        for j in range(10):
            producer.produce(topic, key="k", value=f"{i}-{j}")
        assert producer.flush(patience(60)) == 0  # aborting throws away what has not left
        if commit:
            producer.commit_transaction(patience(60))
        else:
            producer.abort_transaction(patience(60))
    f = function(topic)
    f.start()
    f.wait_for(20)
    assert [e["body"] for e in f.seen()] == [f"{i}-{j}" for i in (0, 2) for j in range(10)]
    wait_until(lambda: kafka.committed(f.group, topic).get(0, 0) >= 32, 10, "the last message's")


@pytest.mark.parametrize("ordering", ["key", "partition", "none"])
def test_parallel(kafka: Client, function: Callable[..., Function], ordering: str) -> None:
    """How many messages of one partition are handled at once."""
    topic = kafka.create_topic(1)
    code = RECORDER + """
def handler(context, event):
    begin = time.time()
    time.sleep(0.05)
    note(event, begin=begin)
"""
    f = function(topic, code, workers=8, ordering=ordering, lanes=4)
    kafka.produce(topic, numbered(64, 64))
    f.start()
    f.wait_for(64)
    spans = [(e["begin"], e["at"]) for e in f.seen()]
    most = max(sum(b <= x < e for b, e in spans) for x, _ in spans)
    assert most == 1 if ordering == "partition" else 2 <= most <= 4 if ordering == "key" \
        else most > 4


def test_batches(kafka: Client, function: Callable[..., Function]) -> None:
    """A handler of lists gets them full, in order by key, and no key in two lists at once."""
    count = size(5000)
    topic = kafka.create_topic(4)
    code = RECORDER + """
def handler(context, batch):
    for event in batch:
        note(event, size=len(batch))
    return [context.Response(body="", event_id=event.id) for event in batch]
"""
    f = function(topic, code, workers=2,
                 batch={"mode": "enable", "batchSize": 100, "timeout": "200ms"})
    kafka.produce(topic, numbered(count, 50))
    f.start()
    f.wait_for(count)
    f.check_order()
    assert set(f.places().values()) == {1}
    assert max(e["size"] for e in f.seen()) == 100
    f.wait_committed()


def test_batches_after_a_retry(kafka: Client, function: Callable[..., Function]) -> None:
    """A message that was tried again leaves its key as it was: what waits behind it comes in full
    batches, not one by one."""
    topic = kafka.create_topic(1)
    code = RECORDER + """
def handler(context, batch):
    failed = os.environ["OUT"] + ".failed"
    for event in batch:
        note(event, size=len(batch))
    if not os.path.exists(failed):
        os.close(os.open(failed, os.O_CREAT))
        raise RuntimeError("once")
    return [context.Response(body="", event_id=event.id) for event in batch]
"""
    f = function(topic, code, workers=2, retry={"maxAttempts": 9, "base": "20ms"},
                 batch={"mode": "enable", "batchSize": 50, "timeout": "200ms"})
    kafka.produce(topic, numbered(500, 1))
    f.start()
    f.wait_for(500, 200)
    f.wait_committed()
    seen = f.seen()
    repeated = len(seen) - 500
    assert 1 <= repeated <= 50
    assert sum(e["size"] < 10 for e in seen) <= 2 * repeated + 10, [e["size"] for e in seen]


NATIVE = pytest.mark.parametrize("handler, isolation", [
    ("batch", "none"), ("batch_inline", "none"), ("batch", "process")])


@NATIVE
def test_native_batches(kafka: Client, function: Callable[..., Function], handler: str,
                        isolation: str) -> None:
    """The same for handle_batch()."""
    count = size(5000)
    topic = kafka.create_topic(4)
    f = function(topic, handler=handler, workers=2, spec={"stator": {"isolation": isolation}},
                 batch={"mode": "enable", "batchSize": 100, "timeout": "200ms"})
    kafka.produce(topic, numbered(count, 50))
    f.start()
    f.wait_for(count)
    f.check_order()
    assert set(f.places().values()) == {1}
    assert max(e["size"] for e in f.seen()) == 100
    f.wait_committed()


@NATIVE
def test_results_in_native_batches(kafka: Client, function: Callable[..., Function], handler: str,
                                   isolation: str) -> None:
    """One of a batch is tried again, one is put aside; the others are done."""
    topic, dead = kafka.create_topic(1), kafka.create_topic(1)
    f = function(topic, handler=handler, workers=1, spec={"stator": {"isolation": isolation}},
                 retry={"maxAttempts": 3, "base": "20ms"}, deadLetter={"topic": dead},
                 batch={"mode": "enable", "batchSize": 10, "timeout": "200ms"})
    bodies = ["once", "error", "forget", *(str(n) for n in range(17))]
    kafka.produce(topic, [(f"k{n}", body) for n, body in enumerate(bodies)])
    f.start()
    f.wait_for(20)
    f.wait_committed()
    assert f.places() == Counter({(0, 0): 2, (0, 1): 3, (0, 2): 3}
                                 | {(0, n): 1 for n in range(3, 20)})
    assert [(m.value(), dict(m.headers())["st-attempts"]) for m in sorted(
        kafka.read(dead), key=lambda m: m.key())] == [(b"error", b"3"), (b"forget", b"3")]


def test_static_batches(kafka: Client, function: Callable[..., Function]) -> None:
    """A batch finds the worker of its partition among idle ones."""
    topic = kafka.create_topic(6)
    f = function(topic, handler="batch", workers=3, attributes={"workerAllocationMode": "static"},
                 batch={"mode": "enable", "batchSize": 10, "timeout": "20ms"})
    f.start()
    for n in range(12):
        kafka.produce(topic, [{"partition": n % 6, "key": "k", "value": str(n)}])
        f.wait_for(n + 1)
    f.wait_committed()


def test_static_allocation(kafka: Client, function: Callable[..., Function]) -> None:
    """A partition's messages go to one worker."""
    topic = kafka.create_topic(8)
    f = function(topic, workers=3, attributes={"workerAllocationMode": "static"})
    kafka.produce(topic, numbered(400, 100))
    f.start()
    f.wait_for(400)
    f.check_order()
    workers = defaultdict(set)
    for e in f.seen():
        workers[e["shard"]].add(e["pid"])
    assert all(len(pids) == 1 for pids in workers.values())
    assert len({pid for pids in workers.values() for pid in pids}) == 3


def test_stalled_handler_is_bounded(kafka: Client, function: Callable[..., Function]) -> None:
    """No more is taken than waits for workers, memory stays; then everything comes through."""
    count, kib = size(8000), b"x" * 1024
    topic = kafka.create_topic(16)
    code = RECORDER + """
def handler(context, event):
    while not os.path.exists(os.environ["OUT"] + ".go"):
        time.sleep(0.05)
    os.write(FD, b"{}\\n")
"""
    f = function(topic, code, workers=2, attributes={"window": 256, "prefetch": "1Mi"})
    kafka.produce(topic, [(f"k{i % 500}", kib) for i in range(count)])
    s = f.start()
    wait_until(lambda: len(s.metrics().find("stator_source_pending")) == 16, 30, "assigned")
    wait_until(lambda: s.metric("stator_source_pending") >= min(500, count // 2), 30, "taken")
    before = s.memory()
    time.sleep(2)
    assert s.metric("stator_source_pending") <= 16 * 257
    if not SANITIZER:
        assert s.memory() - before < 8 << 20
    (f.dir / "out.jsonl.go").touch()
    wait_until(lambda: len(f.out.read_text().splitlines()) >= count, 60, "all came through")
    f.wait_committed()


@pytest.mark.parametrize(("count", "length"), [(size(200000), 20), (4000, 1024), (60, 65536)])
def test_small_prefetch(kafka: Client, function: Callable[..., Function], count: int,
                        length: int) -> None:
    """A handler that empties librdkafka's queue is not kept waiting: a full one is looked at again
    only after a second, which would take a minute here."""
    topic = kafka.create_topic(1)
    kafka.produce(topic, [(None if length < 1024 else f"k{i % 50}", b"x" * length) for i in range(count)],
                  batch_num_messages=100)
    f = function(topic, RECORDER + 'def handler(context, event):\n    os.write(FD, b"{}\\n")\n',
                 workers=1, attributes={"prefetch": "16Ki", "fetchDefault": 8192})
    f.start()
    wait_until(lambda: len(f.out.read_text().splitlines()) >= count, 30, "all came through")
    f.wait_committed()


def test_prefetched_tombstones_are_bounded(
        kafka: Client, function: Callable[..., Function]) -> None:
    """Messages without a value take memory too, and librdkafka counts nothing for them."""
    count, most = 60000, (64 << 10) // 32
    topic = kafka.create_topic(1)
    kafka.produce(topic, [(f"k{i % 50}", None) for i in range(count)], batch_num_messages=100)
    code = RECORDER + """
def handler(context, event):
    while not os.path.exists(os.environ["OUT"] + ".go"):
        time.sleep(0.02)
    os.write(FD, b"{}\\n")
"""
    f = function(topic, code, workers=1, attributes={
        "prefetch": "64Ki", "fetchDefault": 65536, "statisticsInterval": "200ms"})
    s = f.start()

    def fetched() -> float:
        return sum(s.metrics().find("stator_kafka_prefetched_messages").values())
    wait_until(lambda: fetched() >= most, 30, "the queue is full")
    time.sleep(1)
    assert fetched() < count / 3
    (f.dir / "out.jsonl.go").touch()
    wait_until(lambda: len(f.out.read_text().splitlines()) >= count, 60, "all came through")
    f.wait_committed()


def test_stuck_message_is_passed_by_others(
        kafka: Client, function: Callable[..., Function]) -> None:
    """A window full of bytes takes more as soon as they are gone, though its oldest message does
    not end."""
    topic = kafka.create_topic(1)
    code = RECORDER + """
def handler(context, event):
    while event.key == b"stuck" and not os.path.exists(os.environ["OUT"] + ".go"):
        time.sleep(0.02)
    os.write(FD, b"{}\\n")
"""
    f = function(topic, code, workers=2, lanes=32,
                 attributes={"windowBytes": "128Ki", "window": 4096})
    kafka.produce(topic, [("stuck", b"")] + [(f"k{i % 40}", b"x" * 4096) for i in range(300)])
    s = f.start()
    others = 300 - 300 // 40 * 8
    wait_until(lambda: len(f.out.read_text().splitlines()) >= others, 30, "others went on")
    assert s.metric("nuclio_processor_handled_events_total") <= 300
    (f.dir / "out.jsonl.go").touch()
    wait_until(lambda: len(f.out.read_text().splitlines()) >= 301, 30, "all came through")
    f.wait_committed()


def test_native_inline(kafka: Client, tmp_path: Path) -> None:
    """A C handler that never blocks runs on the loop; several topics; metrics of the source."""
    count = size(20000)
    topics = [kafka.create_topic(4), kafka.create_topic(2)]
    for topic in topics:
        kafka.produce(topic, numbered(count, 100))
    trigger = {"kind": "kafka-cluster", "url": kafka.bootstrap, "attributes": {
        "topics": topics, "consumerGroup": topics[0], "initialOffset": "earliest"}}
    with Stator(tmp_path, "hello", spec={"triggers": {"k": trigger}}) as s:
        wait_until(lambda: s.metric("nuclio_processor_handled_events_total") >= 2 * count, 60)
        assert s.metric("nuclio_processor_handled_events_total") == 2 * count
        for topic in topics:
            wait_until(lambda t=topic: kafka.lag(topics[0], t) == 0, 10, "no lag")
        wait_until(lambda: s.metric("stator_source_lag") == 0, 10)
        wait_until(lambda: s.metric("stator_source_pending") == 0, 10)
