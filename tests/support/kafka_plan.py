"""What goes wrong in a run of kafka_chaos, and when: the same for the same seed."""

import random
from dataclasses import dataclass

# Kinds of faults, and how many of 36 they are.
SHARES = {
    "worker": 9,     # kill -9 of a worker
    "processor": 5,  # kill -9 of a processor, which is started again at once
    "join": 5,       # one more processor
    "leave": 5,      # SIGTERM of a processor
    "broker": 2,     # kill -9 of the broker, which is started again at once
    "pause": 2,      # SIGSTOP of the broker for a while
    "partition": 1,  # one more partition, with keys of its own
    "delay": 3,      # messages between broker and some processors travel long
    "stall": 2,      # ... and get stuck
    "cut": 2,        # connections of some processors are cut, and none can be made
}
LASTING = ("pause", "delay", "stall", "cut")
MEMBERS = 3          # at most at once
PROXIES = 2          # a network fault is one of one of them


@dataclass
class Fault:
    """seconds: how long it lasts. target: which of the processors or proxies, from 0 to 1; worker:
    which of its workers."""

    kind: str
    gap: float           # seconds of calm before it
    target: float
    worker: float
    seconds: float
    milliseconds: int    # of a delay

    def __str__(self) -> str:
        more = f" for {self.seconds:.1f} s" if self.kind in LASTING else ""
        more += f", {self.milliseconds} ms" if self.kind == "delay" else ""
        return f"{self.gap:5.2f} s later: {self.kind}{more} (target {self.target:.3f})"


def make_plan(seed: int, count: int, gap: float, session: float) -> list[Fault]:
    """So many faults, on average `gap` seconds after each other; what stalls does so for up to one
    and a half sessions. Of every kind there is at least one where count allows."""
    rand = random.Random(seed)
    total = sum(SHARES.values())
    kinds = [k for k, share in SHARES.items() for _ in range(max(1, share * count // total))]
    names, weights = list(SHARES), list(SHARES.values())
    kinds += rand.choices(names, weights, k=max(0, count - len(kinds)))
    rand.shuffle(kinds)
    kinds = kinds[:count]
    members, faults = 1, []
    for kind in kinds:
        # As many come as may be there, as many go as are.
        if kind in ("join", "leave"):
            kind = "join" if members == 1 else "leave" if members == MEMBERS else kind
            members += 1 if kind == "join" else -1
        faults.append(Fault(kind, rand.uniform(0.3, 2 * gap - 0.3), rand.random(), rand.random(),
                            rand.uniform(0.3, 1.5 * session), rand.choice((20, 50, 100, 200))))
    return faults
