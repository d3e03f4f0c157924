#!/usr/bin/env python3
"""Random faults while a function with a Kafka trigger works: nothing lost, order by key, repeats only
where docs/triggers/kafka.md allows them.

Faults: kill -9 of workers and processors, processors that come and go, a broker that is killed or
stopped for a while, added partitions, networks that are slow, stuck or cut. The plan is made from the
seed (--plan prints it); when things happen depends on the machine. Exit status 1 where a message was
lost, came out of order, or came again without a cause."""

import argparse
import statistics
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import toxiproxy  # noqa: E402
from kafka_chaos import Chaos, Options, Verdict  # noqa: E402
from kafka_plan import make_plan  # noqa: E402


def report(v: Verdict) -> None:
    """As docs/reliability.md has it."""
    o = v.options
    print(f"\n{o.worker}, seed {o.seed}: {o.messages} messages of {o.keys}+ keys, {o.partitions}+ "
          f"partitions, {sum(v.faults.values())} faults, {v.seconds:.0f} s")
    print(f"lost {len(v.lost)}, out of order {len(v.disorder)}, handled again "
          f"{sum(v.causes.values())}, of them without a cause {len(v.unexplained)}, "
          f"after all was committed {v.again_at_the_end}")
    print("\n| fault | times | longest pause of the stream after it: median, worst | repeats |")
    print("| --- | --- | --- | --- |")
    for kind, count in sorted(v.faults.items()):
        gaps = v.silences.get(kind, [0.0])
        print(f"| {kind} | {count} | {statistics.median(gaps):.2f} s, {max(gaps):.2f} s | "
              f"{v.causes[kind] + v.causes[f'lost: {kind}']} |")
    others = {k: n for k, n in v.causes.items() if k.removeprefix("lost: ") not in v.faults}
    if others:
        print(f"repeats of other causes: {others}")
    for problem in v.problems():
        print(f"NOT AS PROMISED: {problem}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for f in fields(Options):
        if f.name != "worker":
            parser.add_argument(f"--{f.name.replace('_', '-')}", type=type(f.default),
                                default=f.default)
    parser.add_argument("--worker", action="append", choices=("native", "python", "portable"),
                        help="of one run; several may be given (native and python)")
    parser.add_argument("--plan", action="store_true", help="print the plan, do nothing")
    parser.add_argument("--keep", type=Path, help="folder for logs; must not exist")
    args = parser.parse_args()
    given = {f.name: getattr(args, f.name) for f in fields(Options)}
    if args.plan:
        print(*make_plan(args.seed, args.faults, args.gap, args.session), sep="\n")
        return 0
    if not toxiproxy.is_there():
        return 2
    bad = False
    for worker in args.worker or ("native", "python"):
        with tempfile.TemporaryDirectory() as scratch:
            folder = args.keep / worker if args.keep else Path(scratch)
            folder.mkdir(parents=True, exist_ok=not args.keep)
            with Chaos(folder, Options(**given | {"worker": worker}),
                       lambda text: print(text, flush=True)) as chaos:
                verdict = chaos.run()
                chaos.save(folder / "episodes.jsonl")
        report(verdict)
        bad = bad or bool(verdict.problems())
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
