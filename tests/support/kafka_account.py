"""What became of each message in a run of kafka_chaos: was it handled, in order, how often, and why
again.

The handlers append one RECORD for each message to a file; O_APPEND keeps the order."""

import struct
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

RECORD = struct.Struct("=IIHHId")  # number, pid, life, shard, -, time; tests/unit/handlers/record.c


# Faults after which a group may lose a session, or gives anew what it was taking away.
WEAK = ("broker", "pause", "delay", "stall", "cut", "partition")


@dataclass
class Episode:
    """Something that was done to the function or to what it needs; end None: it goes on."""

    kind: str
    begin: float
    end: float | None
    life: int = -1       # of a processor
    pid: int = -1        # of a worker


@dataclass
class Life:
    """A processor, from its start to its end. losses: when it said that it could not keep a promise:
    its partitions were lost, or positions could not be asked for."""

    number: int
    losses: list[float] = field(default_factory=list)


@dataclass
class Repeat:
    """A message that was handled again: where and when at first, and then."""

    number: int
    shard: int
    lives: tuple[int, int]
    pid: int
    times: tuple[float, float]


class Account:
    """Messages have numbers from 0; before[n] is the message before it of its key, or -1."""

    def __init__(self, path: Path, count: int):
        self.path, self.count = path, count
        self.before = array("i", [-1]) * count
        self.times = array("B", [0]) * count
        self.last_at = array("d", [0.0]) * count
        self.last_pid = array("I", [0]) * count
        self.last_life = array("H", [0]) * count
        self.handled = 0             # different ones
        self.disorder: list[str] = []
        self.repeats: list[Repeat] = []
        self.silences: list[tuple[float, float]] = []  # (begin, seconds), longer than 50 ms
        self._at, self._offset = 0.0, 0

    def read(self) -> None:
        """Takes what the handlers have written since the last call."""
        with open(self.path, "rb") as f:
            f.seek(self._offset)
            data = f.read()
        data = data[:len(data) // RECORD.size * RECORD.size]
        self._offset += len(data)
        for number, pid, life, shard, _, at in RECORD.iter_unpack(data):
            self._take(number, pid, life, shard, at)

    def _take(self, n: int, pid: int, life: int, shard: int, at: float) -> None:
        if self._at and at - self._at > 0.05:
            self.silences.append((self._at, at - self._at))
        self._at = max(self._at, at)
        if self.times[n] == 0:
            self.handled += 1
            before = self.before[n]
            if before >= 0 and self.times[before] == 0:
                self.disorder.append(f"{n} of partition {shard} came before {before}, life {life}")
        else:
            self.repeats.append(Repeat(n, shard, (self.last_life[n], life), self.last_pid[n],
                                       (self.last_at[n], at)))
        self.times[n] = min(self.times[n] + 1, 255)
        self.last_at[n], self.last_pid[n], self.last_life[n] = at, pid, life

    def missing(self) -> list[int]:
        return [n for n in range(self.count) if self.times[n] == 0]

    def longest_silence(self, begin: float, end: float) -> float:
        """Of the whole stream, among those that began between the times."""
        found = [length for at, length in self.silences if begin - 0.05 <= at < end]
        return max(found, default=0.0)


def why(repeat: Repeat, episodes: list[Episode], lives: dict[int, Life], slack: float,
        settle: float) -> str:
    """The kind of fault that explains it, "lost: KIND" where a processor says that it lost its
    session, or "" for none. slack: seconds within which what was done is committed. settle:
    those that a group needs to be whole again."""
    first, again = repeat.times
    weak = [e for e in episodes if e.kind in WEAK
            and e.begin <= again and (e.end is None or e.end + settle >= first)]
    weak.sort(key=lambda e: e.kind != "partition")  # the last one is named, a partition if it must
    name = f"lost: {weak[-1].kind}" if weak else "lost: no fault"
    losses = [at for life in set(repeat.lives) for at in lives[life].losses]
    if any(first - slack <= at <= again for at in losses):
        return name
    for e in episodes:
        soon = first - slack <= e.begin <= first + slack and e.begin <= again
        if e.kind == "worker" and e.pid == repeat.pid and soon:
            return "worker"
        if e.kind == "processor" and e.life == repeat.lives[0] and e.begin <= again:
            if soon or any(w.begin <= e.begin and e.begin >= first for w in weak):
                return "processor"
    # A processor that the group had given up went on until it heard of it.
    if any(again <= at <= again + 10 * slack for at in losses):
        return name
    return ""


def explain(account: Account, episodes: list[Episode], lives: dict[int, Life],
            slack: float, settle: float) -> tuple[Counter[str], list[Repeat]]:
    """How many repeats each kind of fault explains, and those that none does."""
    causes: Counter[str] = Counter()
    unexplained = []
    for repeat in account.repeats:
        cause = why(repeat, episodes, lives, slack, settle)
        if cause:
            causes[cause] += 1
        else:
            unexplained.append(repeat)
    return causes, unexplained
