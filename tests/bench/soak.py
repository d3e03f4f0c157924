#!/usr/bin/env python3
"""A soak: ten minutes of half load on a Python function, with memory that stays flat.

Bursts of load as long as the pauses between them, of every kind in turn (new connections each time):
small requests, pipelined ones, bodies of 1 KiB and of 100 KiB. Sizes are taken between bursts; after
the first fifth of the time they may grow by less than --growth per cent and 2 MiB."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import cases
import subject

BURST = 1       # seconds of load, then as many without
LOADS = {
    "get": ("-c", "64"),
    "pipelined": ("-c", "16", "-D", "16"),
    "post-1k": ("-c", "64", "-s", "1024", "-E"),
    "post-100k": ("-c", "8", "-s", "102400", "-E"),
}


def resident(pid: int) -> int:
    """Bytes."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return sorted(int(c) for task in tasks for c in task.read_text(encoding="ascii").split())


def sizes(server: subject.Stator) -> dict[str, int]:
    """Of the processor and its workers."""
    workers = children(server.pid)
    return {"processor": resident(server.pid), "workers": sum(map(resident, workers)),
            "descriptors": server.descriptors(), "processes": len(workers)}


def burst(server: subject.Stator, args: tuple[str, ...]) -> int:
    """One spell of load; returns its requests, all of them answered well."""
    case = cases.Case("soak", "", (), args=args)
    place = cases.Place(subject.OUT, Path(), server.port)
    result = cases.run_client(case, place, f"http://127.0.0.1:{server.port}/", BURST, None)
    if result["error"] is not None:
        raise SystemExit(f"soak: {args}: {result['error']}")
    return result["total"]


def show(seconds: float, requests: int, now: dict[str, int]) -> None:
    print(f"{seconds:6.0f} s  {requests:10d} requests  processor {now['processor'] / 2**20:6.1f} MiB  "
          f"workers {now['workers'] / 2**20:6.1f} MiB  {now['descriptors']} descriptors", flush=True)


def soak(server: subject.Stator, seconds: float, growth: float) -> int:
    begin, total, turn, first = time.monotonic(), 0, 0, None
    told = 0.0
    while (spent := time.monotonic() - begin) < seconds:
        total += burst(server, list(LOADS.values())[turn % len(LOADS)])
        turn += 1
        time.sleep(BURST)
        now = sizes(server)
        if first is None and spent >= seconds / 5:
            first = now
        if spent - told >= seconds / 20 or told == 0:
            show(spent, total, now)
            told = spent
    now = sizes(server)
    show(time.monotonic() - begin, total, now)
    assert first is not None
    bad = [name for name in ("processor", "workers")
           if now[name] > first[name] * (1 + growth / 100) + 2 * 2**20]
    bad += [name for name in ("descriptors", "processes") if now[name] > first[name]]
    for name in bad:
        print(f"soak: {name} grew from {first[name]} to {now[name]}", file=sys.stderr)
    return 1 if bad else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--growth", type=float, default=3, metavar="PERCENT")
    parser.add_argument("--config", default="python.yaml", help="of this folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, \
            subject.stator(scratch, config=args.config) as server:
        return soak(server, args.seconds, args.growth)


if __name__ == "__main__":
    sys.exit(main())
