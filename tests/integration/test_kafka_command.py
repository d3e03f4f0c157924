"""`stator kafka`: lag, peek and replay-dlq against a real broker, and what they say when there is none."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from kafka_broker import free_ports
from kafka_client import Client
from kafka_command import Command
from kafka_function import RECORDER, Function
from stator_proc import BINARY


def commit(kafka: Client, group: str, topic: str, offsets: dict[int, int]) -> None:
    consumer = kafka.consumer(group)
    consumer.commit(offsets=[TopicPartition(topic, p, o) for p, o in offsets.items()],
                    asynchronous=False)
    consumer.close()


def test_lag(kafka: Client, tmp_path: Path) -> None:
    """Positions, ends and what lies between: before and after the first commit, for patterns too."""
    topic = kafka.create_topic(2)
    other = kafka.create_topic(1, name=f"{topic}-more")
    kafka.produce(topic, [dict(value=str(i), partition=i % 2) for i in range(10)])
    kafka.produce(other, ["x"])
    c = Command(tmp_path, kafka, [f"^{topic}"])
    c.group = f"g-^{topic}"
    found = json.loads(c.run("lag", "--json").stdout)
    assert found["lag"] == 11 and found["group"] == c.group
    assert found["partitions"][0] == {"topic": topic, "partition": 0, "committed": None, "low": 0,
                                      "high": 5, "lag": 5}
    commit(kafka, c.group, topic, {0: 3, 1: 5})
    lines = c.run("lag").stdout.splitlines()
    assert lines[0].split() == ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG"]
    assert [line.split() for line in lines[1:4]] == [
        [topic, "0", "3", "5", "2"], [topic, "1", "5", "5", "0"], [other, "0", "-", "1", "1"]]
    assert lines[4] == f"group {c.group}: 3 in 3 partitions"
    c.run("lag", "--max-lag", "3")
    c.run("lag", "--max-lag=2", status=1)


def test_peek(kafka: Client, tmp_path: Path) -> None:
    """Shows what comes next, and moves nothing."""
    topic = kafka.create_topic(1)
    kafka.produce(topic, [dict(key="k", value="first", headers={"h": "1"}), (None, "second"),
                          ("gone", None), ("bin", b"\xff\x00" + b"x" * 300), ("line", 'a\n"b"'),
                          ("cut", "123456789\u00fc")])
    c = Command(tmp_path, kafka, [topic])
    lines = c.run("peek", "-n", "3").stdout.splitlines()
    assert lines[0].startswith(f"{topic}[0]@0 ") and lines[0].endswith('key="k"')
    assert lines[1:3] == ['    h: "1"', '    "first"']
    assert lines[3].endswith("key=null") and lines[4] == '    "second"'
    assert lines[5].endswith('key="gone"') and lines[6] == "    null"
    commit(kafka, c.group, topic, {0: 3})
    found = [json.loads(line) for line in c.run("peek", "--json", "--bytes", "10").stdout.splitlines()]
    assert [m["offset"] for m in found] == [3, 4, 5]
    assert (found[0]["size"], found[0]["value"]) == (302, "\\xff\x00xxxxxxxx")
    assert found[1]["value"] == 'a\n"b"' and found[1]["headers"] == []
    cut = json.loads(c.run("peek", "--json", "-n1", "--bytes", "10", "--from", "5").stdout)
    assert (cut["value"], cut["size"]) == ("123456789", 11)
    binary = c.run("peek", "-n1").stdout.splitlines()[1]
    assert binary.startswith('    "\\xff\\x00xx') and binary.endswith('"... (302 bytes)')
    for words, offsets in ((["--from", "beginning"], [0, 1, 2, 3, 4, 5]),
                           (["--from=end", "-n", "2"], [4, 5]), (["--from", "4"], [4, 5]),
                           (["--partition", "7"], [])):
        out = c.run("peek", "--json", *words).stdout.splitlines()
        assert [json.loads(line)["offset"] for line in out] == offsets
    assert kafka.committed(c.group, topic) == {0: 3}
    assert "no messages" in c.run("peek", "--topic", f"{topic}-none").stderr


FAILS_ONCE = RECORDER + """
def handler(context, event):
    note(event, headers={k: v.decode() for k, v in event.headers.items()})
    if not os.path.exists(os.environ["OUT"] + ".repaired"):
        raise ValueError("not yet")
"""


def test_replay(kafka: Client, function: Callable[..., Function]) -> None:
    """Dead letters of a real function come back as they were, once, and are handled then."""
    topic, dead = kafka.create_topic(3), kafka.create_topic(2)
    f = function(topic, FAILS_ONCE, workers=1, retry={"maxAttempts": 1},
                 deadLetter={"topic": dead})
    c = Command(f.dir, kafka, [topic])
    c.write({"k": f.trigger})
    assert c.run("replay-dlq").stdout == "0 replayed, 0 passed over\n"
    kafka.produce(topic, [dict(key=f"k{i}", value=str(i), partition=i % 3,
                               headers=[("st-error", b"mine"), ("h", str(i).encode())])
                          for i in range(30)])
    f.start()
    f.wait_for(30)
    f.wait_committed()
    kafka.produce(dead, [("stranger", "no dead letter")])
    (f.dir / "out.jsonl.repaired").touch()
    # What is shown is neither published nor passed.
    shown = c.run("replay-dlq", "--dry-run").stdout.splitlines()
    assert shown[-1] == "30 would be replayed, 1 passed over"
    assert sum("not yet" in line and f" -> {topic}[" in line for line in shown) == 30
    assert c.run("replay-dlq", "--max", "4").stdout.startswith(("4 replayed, 0", "3 replayed, 1"))
    c.run("replay-dlq")
    f.wait_for(60)
    f.wait_committed()
    again = f.seen()[30:]
    assert sorted(int(e["body"]) for e in again) == list(range(30))
    for e in again:
        number = int(e["body"])
        assert (e["key"], e["shard"]) == (f"k{number}", number % 3)
        assert e["headers"] == {"st-error": "mine", "h": str(number)}
    assert c.run("replay-dlq").stdout == "0 replayed, 0 passed over\n"
    assert sum(kafka.committed(f"{f.group}-replay", dead).values()) == 31


def test_replay_that_fails(kafka: Client, tmp_path: Path) -> None:
    """What can't be published is not passed, and neither is what lies behind it."""
    topic, dead = kafka.create_topic(1), kafka.create_topic(1)

    def letter(value: str, to: str, partition: int) -> dict[str, Any]:
        return dict(key="k", value=value, headers={"st-src-topic": to, "st-attempts": "1",
                                                   "st-src-partition": str(partition)})
    kafka.produce(dead, [letter("good", topic, 0), letter("bad", topic, 7), letter("late", topic, 0)])
    c = Command(tmp_path, kafka, [topic], deadLetter={"topic": dead})
    assert "not all could be published" in c.run("replay-dlq", status=1, timeout="8s").stderr
    assert kafka.committed(f"{c.group}-replay", dead) == {0: 1}
    assert kafka.read(topic)[0].value() == b"good"


@pytest.mark.parametrize("words", [("lag",), ("peek",), ("replay-dlq",)], ids=lambda w: w[0])
def test_no_broker(tmp_path: Path, words: tuple[str]) -> None:
    """Says which broker does not answer, in time."""
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    c = Command(tmp_path, Client(nobody), ["t"], deadLetter={"topic": "d"})
    said = c.run(*words, timeout="1s", status=3).stderr
    assert f"no answer of {nobody} within 1s" in said and "refused" in said


def test_which_trigger(kafka: Client, tmp_path: Path) -> None:
    """By name where there are several; without one there is nothing to do."""
    topic = kafka.create_topic(1)
    c = Command(tmp_path, kafka, [topic])
    one = json.loads(c.file.read_text("utf-8"))["spec"]["triggers"]["k"]
    c.write({"a": one, "b": one | {"attributes": one["attributes"] | {"consumerGroup": "of-b"}},
             "h": {"kind": "http"}})
    assert "name one by --trigger" in c.run("lag", status=1).stderr
    assert "group of-b: 0 in 1 partitions" in c.run("lag", "--trigger", "b").stdout
    assert 'no kafka trigger "h"' in c.run("lag", "--trigger", "h", status=1).stderr
    assert "no deadLetter" in c.run("replay-dlq", "--trigger", "a", status=1).stderr
    c.write({"h": {"kind": "http"}})
    assert "has no kafka trigger" in c.run("lag", status=1).stderr


USAGE = [
    ([], "a word is missing: lag, peek or replay-dlq; type: stator kafka lag|peek|replay-dlq"),
    (["log"], 'there is no "log", expected lag, peek or replay-dlq'),
    (["lag", "a", "b"], 'takes one function, found "a" and "b"'),
    (["lag", "--dry-run"], "--dry-run is no option of this"),
    (["peek", "--count", "0"], "--count needs a number from 1"),
    (["peek", "--from", "there"], '--from needs committed, beginning, end or an offset, found "there"'),
    (["lag", "--jsn"], "there is no option --jsn, did you mean --json"),
    (["lag", "--timeout", "5"], "--timeout needs a duration"),
]


@pytest.mark.parametrize("words, said", USAGE)
def test_usage(words: list[str], said: str) -> None:
    done = subprocess.run([str(BINARY), "kafka", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_help() -> None:
    done = subprocess.run([str(BINARY), "kafka", "--help"], capture_output=True, text=True, check=True)
    for word in ("lag [DIR|FILE]", "--dry-run", "--max-lag=N", "GROUP-replay"):
        assert word in done.stdout
