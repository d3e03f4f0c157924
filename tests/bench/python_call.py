#!/usr/bin/env python3
"""What a call of a Python handler costs, without sockets and processes: fills a ring with events,
lets the extension run all of them in this process, and divides. The best pass counts.

Run it with the interpreter of the workers."""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/python"))

import ring_peer as wire  # noqa: E402

HEADERS = [(b"Host", b"localhost:8080"), (b"User-Agent", b"bench/1.0"), (b"Accept", b"*/*"),
           (b"Accept-Encoding", b"gzip, deflate"), (b"Content-Type", b"application/octet-stream"),
           (b"Content-Length", b"1024"), (b"X-Request-Id", b"0123456789abcdef"),
           (b"Connection", b"keep-alive")]


def empty(context, event):
    return ""


def body(context, event):
    return event.body


def all_parts(context, event):
    return str(len(event.headers)) + event.method + event.path + str(len(event.body))


def as_json(context, event):
    return {"path": event.path}


async def empty_async(context, event):
    return ""


async def body_async(context, event):
    return event.body


async def one_turn(context, event):
    await asyncio.sleep(0)
    return ""


CASES = {"empty": empty, "body": body, "method, path, headers, body": all_parts, "dict": as_json,
         "async empty": empty_async, "async body": body_async, "async, one turn": one_turn}


class Bench:
    """A ring that is full of events and is handled again and again: once it is empty, only its
    index moves."""

    def __init__(self, native, ring_size: int) -> None:
        self.native, self.ring_size = native, ring_size
        record = wire.event(1, b"b" * 1024, HEADERS, method=b"POST", path=b"/some/path")
        self.events = ring_size // len(record)
        self.peer = wire.RingPeer(ring_size, 1 << 20)
        self.peer.write(*[record] * self.events, wake=False)
        rest = ring_size - self.peer.tail
        if rest:
            fill = wire.record_head.pack(rest, 16, wire.FILL, 0, 0)
            self.peer.write(fill.ljust(rest, b"\0"), wake=False)
        self.peer.control.close()  # the run looks there whenever it has nothing to do

    def run(self, function, passes: int) -> float:
        """The least of the passes in nanoseconds an event."""
        peer, begin, least, left = self.peer, 0, 1e9, passes

        def control() -> int:
            nonlocal begin, least, left
            end = time.perf_counter_ns()
            if peer.index(wire.DOWN, wire.HEAD_AT) != peer.tail:
                return 0  # it looks there while it runs, too
            if begin:
                least = min(least, (end - begin) / self.events)
                left -= 1
                if left == 0:
                    return 2
            peer.u64[(wire.INDEXES + 256 + wire.HEAD_AT) // 8] = peer.index(wire.UP, wire.TAIL)
            peer.tail += self.ring_size
            peer.u64[wire.INDEXES // 8] = peer.tail
            begin = time.perf_counter_ns()
            return 0

        hooks = SimpleNamespace(
            map_result=None, map_error=lambda exc, event: sys.exit(repr(exc)), control=control,
            drained=None, encode_json=json.dumps, new_loop=asyncio.new_event_loop)
        self.native.run(
            function, None, hooks, is_async=asyncio.iscoroutinefunction(function),
            max_concurrency=self.events, control_fd=peer.worker_control.fileno(),
            memory_fd=peer.memory_fd, wake_fd=peer.wake_worker, peer_fd=peer.wake_peer)
        return least


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ring", type=int, default=1 << 18, help="bytes")
    parser.add_argument("--passes", type=int, default=300)
    parser.add_argument("--only", default="", help="handlers whose name has this in it")
    parser.add_argument("--package", type=Path, default=ROOT / "build/python")
    options = parser.parse_args()
    sys.path.insert(0, str(options.package))
    from stator import _native

    print(f"{'handler':30} {'ns':>7}")
    for name, function in CASES.items():
        if options.only in name:
            print(f"{name:30} {Bench(_native, options.ring).run(function, options.passes):7.0f}")


if __name__ == "__main__":
    main()
