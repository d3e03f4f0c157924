#!/usr/bin/env python3
"""How long a stream pauses when something dies or goes, and what is repeated after a kill -9.

A steady load on 16 partitions of a real Kafka, four Python workers. The pause is the longest silence of
any one partition from the event on, as its handlers saw it: its messages have 1 ms of work and come a
hundred times a second. Session timeout 6 s. Quiet machines only."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from kafka_account import RECORD  # noqa: E402
from kafka_chaos import Chaos, Load, Options  # noqa: E402
from kafka_plan import Fault  # noqa: E402
from stator_proc import wait_until  # noqa: E402

RATE = 1600         # messages a second


def fault(kind: str) -> Fault:
    return Fault(kind, 0, 0, 0.5, 0, 0)


class Stream:
    """A chaos under steady load, where one thing happens at a time."""

    def __init__(self, folder: Path, seconds: float):
        count = int(RATE * seconds)
        self.chaos = Chaos(folder, Options(messages=count, faults=0, keys=320, rate=RATE,
                                           handler_us=1000, session=6.0), proxies=False)

    def __enter__(self) -> "Stream":
        c = self.chaos
        c.members.append(c.start())
        c.load = Load(c)
        c.load.allowed = c.options.messages
        self.calm(3)
        return self

    def __exit__(self, *_: object) -> None:
        self.chaos.__exit__()

    def calm(self, seconds: float) -> None:
        """Until all that was sent has been handled, and then so long; the load goes on."""
        c = self.chaos
        time.sleep(seconds)

        def level() -> bool:
            c.account.read()
            assert c.load and c.load.sent < c.options.messages, "the load has ended too early"
            return c.load.sent - c.account.handled < RATE // 4
        wait_until(level, 60, "the stream flows")
        time.sleep(seconds / 3)

    def pause(self, what: Callable[[], object], seconds: float) -> tuple[float, float]:
        """The longest silence of a partition, of those that began or were there within the time; and
        how long after what() was over the last partition was heard of."""
        begin = time.time()
        what()
        done = time.time()
        self.calm(seconds)
        last: dict[int, float] = {}
        heard: dict[int, float] = {}
        longest = 0.0
        data = self.chaos.out.read_bytes()
        data = data[:len(data) // RECORD.size * RECORD.size]
        for _, _, _, shard, _, at in RECORD.iter_unpack(data):
            if at > begin and last.get(shard, at) < done + seconds:
                longest = max(longest, at - last.get(shard, at))
            if at > done:
                heard.setdefault(shard, at - done)
            last[shard] = at
        return longest, max(heard.values())


def restart(c: Chaos) -> None:
    """SIGTERM, and the same again."""
    c.members.pop(0).stop(60)
    c.members.append(c.start())


def pauses(rounds: int) -> dict[str, list[float]]:
    """Of each kind of event, in seconds."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch, Stream(Path(scratch), 75 + 75 * rounds) as s:
        c = s.chaos

        def measure(name: str, what: Callable[[], object], seconds: float) -> None:
            longest, back = s.pause(what, seconds)
            found.setdefault(name, []).append(longest)
            if what is kill_broker:
                found.setdefault("... from when it serves again", []).append(back)
            print(f"  {name}: {longest:.2f} s", flush=True)

        def kill_broker() -> None:
            c.do(fault("broker"))
        for _ in range(rounds):
            measure("kill -9 of a worker", lambda: c.do(fault("worker")), 2)
            measure("SIGTERM of the processor, and start again", lambda: restart(c), 4)
            measure("a second processor joins", lambda: c.do(fault("join")), 5)
            measure("it leaves again", lambda: c.members.pop().stop(60), 5)
            measure("kill -9 of the broker, and start again", kill_broker, 9)
            measure("kill -9 of the processor, and start again", lambda: c.do(fault("processor")),
                    9)
    return found


def repeats(rounds: int) -> list[int]:
    """After each kill -9 of a processor that has more to do than it can: 4 workers, 4 ms."""
    found = []
    with tempfile.TemporaryDirectory() as scratch, Chaos(Path(scratch), Options(
            messages=30_000 + 15_000 * rounds, faults=0, keys=320, handler_us=4000,
            session=6.0), proxies=False) as c:
        c.load = Load(c)
        c.load.allowed = c.options.messages
        c.load.thread.join()
        c.members.append(c.start())
        handled = 0
        for _ in range(rounds + 1):
            def more() -> bool:
                c.account.read()
                return c.account.handled > handled + 2000
            wait_until(more, 60, "2000 messages more")
            found.append(len(c.account.repeats) - sum(found))
            handled = c.account.handled
            c.do(fault("processor"))
    return found[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    found = pauses(args.rounds)
    again = repeats(args.rounds)
    print("\n| after | pause: median, worst |\n| --- | --- |")
    for name, times in found.items():
        print(f"| {name} | {statistics.median(times):.2f} s, {max(times):.2f} s |")
    print(f"\nrepeats after kill -9 of a processor: {statistics.median(again):.0f} (median), "
          f"{max(again)} (worst) of {len(again)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
