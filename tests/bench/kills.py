#!/usr/bin/env python3
"""Workers killed at random under load (kill -9): what it costs, and for how long.

As many Python workers as --workers, each with one event of 2 ms at a time, under steady load on
keep-alive connections. Every --gap seconds any of them is killed, also one that starts just now. Each
request must get exactly one answer, and only events that were on a killed worker may get a 500. The
time until all workers serve again is taken at the client: from the kill to the first answer of the new
process."""

import argparse
import bisect
import random
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from kill_load import HANDLER, KillLoad  # noqa: E402
from stator_proc import Stator, python_options  # noqa: E402

CALM = 3            # seconds without kills before them


def measure(args: argparse.Namespace) -> KillLoad:
    """Kills, and how the requests fared."""
    with tempfile.TemporaryDirectory() as scratch, \
            Stator(Path(scratch), "", workers=args.workers,
                   **python_options(Path(scratch), HANDLER)) as server:
        load = KillLoad(server, args.workers, args.connections)
        load.load_until_whole()
        load.load(CALM)
        while len(load.kills) < args.kills:
            load.kill_one()
            load.load(random.uniform(*args.gap))
        load.load_until_whole()
        load.finish()
        return load


def rates(load: KillLoad, within: float) -> tuple[float, list[float]]:
    """Requests a second before the kills; and after each, from `within` on until the next one."""
    first = load.kills[0].at
    calm = load.rate(first - CALM, first)
    ends = [kill.at for kill in load.kills[1:]] + [load.done[-1]]
    spans = [(kill.at + within, end) for kill, end in zip(load.kills, ends, strict=True)]
    done = [(bisect.bisect_left(load.done, begin), bisect.bisect_left(load.done, end))
            for begin, end in spans]
    return calm, [(b - a) / (end - begin) for (a, b), (begin, end) in zip(done, spans, strict=True)
                  if end - begin > 0.02]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--gap", type=float, nargs=2, default=(0.3, 0.6), metavar="SECONDS",
                        help="between two kills, at least and at most")
    parser.add_argument("--within", type=float, default=0.2, metavar="SECONDS",
                        help="so soon all workers must serve again, 99 times of 100")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    random.seed(args.seed)
    load = measure(args)
    served = sum(kill.served for kill in load.kills)
    back = sorted(kill.back for kill in load.kills if kill.back is not None)
    calm, after = rates(load, args.within)
    late = sum(b > args.within for b in back)
    print(f"{load.sent} requests, each with one answer; {load.answers[500]} times 500 after "
          f"{len(load.kills)} kills, {served} of them of workers that served")
    print(f"all workers serve again after {1000 * statistics.median(back):.0f} ms (median), "
          f"{1000 * back[len(back) * 99 // 100]:.0f} ms (99 %), {1000 * back[-1]:.0f} ms (worst); "
          f"later than {1000 * args.within:.0f} ms: {late}")
    if after:
        print(f"requests a second: {calm:.0f} before, {statistics.median(after):.0f} from "
              f"{1000 * args.within:.0f} ms after a kill on (worst {min(after):.0f})")
    return 1 if load.answers[500] > len(load.kills) or late > len(back) // 100 else 0


if __name__ == "__main__":
    sys.exit(main())
