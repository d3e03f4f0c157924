"""A function with a Kafka trigger, for tests: its processors, what its handlers wrote, its group."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from kafka_client import Client
from stator_proc import SANITIZER, Stator, python_options, wait_until

# Writes one line for each event; O_APPEND keeps the lines of all workers whole and in order.
RECORDER = """
import json, os, time
FD = os.open(os.environ["OUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(event, **more):
    line = dict(key=event.key.decode() if event.key else None, shard=event.shard_id,
                offset=event.offset, body=event.body.decode("latin-1")[:40], pid=os.getpid(),
                at=time.time(), **more)
    os.write(FD, (json.dumps(line) + "\\n").encode())
"""
SLEEPER = RECORDER + """
def handler(context, event):
    time.sleep(0.001)
    note(event)
"""


class Function:
    """A function with a Kafka trigger, as often started as wanted, and what its handler wrote."""

    def __init__(self, tmp_path: Path, kafka: Client, topic: str, code: str = SLEEPER, *,
                 workers: int = 4, attributes: dict[str, Any] | None = None,
                 spec: dict[str, Any] | None = None, handler: str = "", **trigger: Any):
        """handler: a test handler in C, instead of the code."""
        self.kafka, self.topic, self.group = kafka, topic, f"g-{topic}"
        self.dir, self.code, self.handler = tmp_path, code, handler
        self.out = tmp_path / "out.jsonl"
        self.out.touch()
        self.trigger = {"kind": "kafka", "numWorkers": workers, "attributes": {
            "topics": [topic], "brokers": [kafka.bootstrap], "consumerGroup": self.group,
            "initialOffset": "earliest", "sessionTimeout": "3s", "heartbeatInterval": "300ms",
        } | (attributes or {})} | trigger
        self.spec = spec or {}
        self.started: list[Stator] = []

    def start(self, **options: Any) -> Stator:
        """One more processor of the group."""
        spec = {"triggers": {"k": self.trigger},
                "env": [{"name": "OUT", "value": str(self.out)}]} | self.spec
        if self.handler:
            options = {"spec": spec, "env": {"OUT": str(self.out)}, "admin": True} | options
        else:
            options = python_options(self.dir, self.code, spec=spec, **options)
        self.started.append(Stator(self.dir, self.handler, name=f"p{len(self.started)}", **options))
        return self.started[-1]

    def seen(self) -> list[dict[str, Any]]:
        """What the handlers wrote, in the order of writing. A line may be seen half written."""
        return [json.loads(line) for line in self.out.read_text().splitlines(keepends=True)
                if line.endswith("\n")]

    def places(self) -> Counter[tuple[int, int]]:
        """How often each message was handled."""
        return Counter((e["shard"], e["offset"]) for e in self.seen())

    def wait_for(self, count: int, seconds: float = 30) -> None:
        """Until so many different messages were handled."""
        wait_until(lambda: len(self.places()) >= count, seconds, f"{count} messages")

    def wait_committed(self, seconds: float = 10) -> None:
        """Until the group has no lag."""
        wait_until(lambda: self.kafka.lag(self.group, self.topic) == 0, seconds, "no lag")

    def check_order(self) -> None:
        """Each key's bodies are numbers from 1: none is handled before the one before it."""
        last: dict[str, int] = defaultdict(int)
        for e in self.seen():
            number = int(e["body"])
            assert number <= last[e["key"]] + 1, f"{e} came after {last[e['key']]}"
            last[e["key"]] = max(last[e["key"]], number)


def numbered(count: int, keys: int) -> list[tuple[str, str]]:
    """Messages of some keys, each key's numbered from 1."""
    numbers: Counter[str] = Counter()
    out = []
    for i in range(count):
        key = f"k{i % keys}"
        numbers[key] += 1
        out.append((key, str(numbers[key])))
    return out


def size(count: int) -> int:
    """Fewer messages where everything is slower."""
    return count // 5 if SANITIZER else count


def children(s: Stator) -> list[int]:
    """Processes of the workers."""
    return [w["pid"] for w in s.status()["pools"][0]["workers"] if "pid" in w]
