#!/usr/bin/env python3
"""What a template saves (spec.stator.prefork): the start of a worker, of many, and memory.

Restarts: a function with one worker and a small handler; the worker is killed, and the time goes until
a request on an open connection is answered by the next one. Readiness: from the processor's start until
it serves, for a handler whose import takes 500 ms (sleeping, or computing), with one worker and with
--workers. Memory: of a worker whose handler holds a list of 64 MiB in small objects."""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from worker_starts import COMPUTES, SLEEPS, ready, restarts, shares  # noqa: E402

LARGE = """
    DATA = [bytes(1000) + str(n).encode() for n in range(64 << 10)]

    def handler(context, event):
        return str(len(DATA))
"""


def show(what: str, values: list[float], unit: str = "ms") -> None:
    scale = 1000 if unit == "ms" else 1
    print(f"{what}: {scale * statistics.median(values):.3g} {unit} (median), "
          f"{scale * min(values):.3g}-{scale * max(values):.3g}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50, help="of restarts; a tenth of readiness")
    parser.add_argument("--workers", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for prefork in False, True:
            show(f"restart of a worker, prefork {prefork}", restarts(folder, prefork, args.rounds,
                                                                          pause=0.5))
        for name, code in ("sleeps", SLEEPS), ("computes", COMPUTES):
            rounds = [(ready(folder, code, 1, False), ready(folder, code, args.workers, False),
                       ready(folder, code, args.workers, True))
                      for _ in range(max(3, args.rounds // 10))]
            show(f"ready, import {name}, 1 worker", [one for one, _, _ in rounds])
            show(f"ready, {args.workers} workers", [many for _, many, _ in rounds])
            show(f"ready, {args.workers} workers, prefork", [forked for _, _, forked in rounds])
            show("  of that of 1 worker", [forked / one for one, _, forked in rounds], "times")
        shared, own = shares(folder, LARGE, args.workers)
        print(f"memory of a worker with 64 MiB of objects: {shared / 2**20:.1f} MiB shared, "
              f"{own / 2**20:.1f} MiB of its own")
    return 0


if __name__ == "__main__":
    sys.exit(main())
