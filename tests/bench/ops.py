#!/usr/bin/env python3
"""What operations cost: logging to the loops, and a scrape of /metrics. Usage: ops.py [--seconds N]

Logging: a handler on a loop writes 100 records a request, 1,000 requests a second arrive; the same
again with a level at which no record is written. The difference of the loops' CPU time (schedstat) is
the price, as a part of a core. Scrape: GET /metrics on a kept connection, ten triggers.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from http_raw import Connection, build_request  # noqa: E402
from stator_proc import Stator, handler_path  # noqa: E402

RECORDS = 100           # a request
REQUESTS = 10           # a burst, every 10 ms: 100,000 records a second
BURST_S = 0.01
TRIGGERS = 10
SCRAPES = 100


def platform(encoding):
    """A log of that form, for Stator(platform=...)."""
    return {"logger": {"sinks": {"out": {"kind": "stdout", "attributes": {"encoding": "json"}},
                                 "own": {"kind": "stdout", "attributes": {"encoding": encoding}}},
                       "system": [{"level": "info", "sink": "out"}],
                       "functions": [{"level": "info", "sink": "own"}]}}


def loops_cpu(s):
    """CPU seconds of the loops' threads so far."""
    total = 0
    for name, ids in s.threads().items():
        for task in ids if name.startswith("st-loop") else []:
            text = Path(f"/proc/{s.pid}/task/{task}/schedstat").read_text(encoding="ascii")
            total += int(text.split()[0])
    return total / 1e9


def drive(s, address, level, seconds):
    """Sends bursts at their times; the loops' CPU seconds a record, and records a second."""
    body = b"\n".join([level + b" a record of a usual length, some sixty bytes of plain text"]
                      * RECORDS)
    burst = build_request("POST", "/", body) * REQUESTS
    with Connection(address, 20) as c:
        begin, cpu, sent = time.monotonic(), loops_cpu(s), 0
        while time.monotonic() < begin + seconds:
            c.send(burst)
            for _ in range(REQUESTS):
                assert c.read_response().status == 200
            sent += REQUESTS * RECORDS
            time.sleep(max(0, begin + sent / (REQUESTS * RECORDS) * BURST_S - time.monotonic()))
        return (loops_cpu(s) - cpu) / sent, sent / (time.monotonic() - begin)


def logging_cost(directory, encoding, seconds, name="log"):
    """The part of a core that 100,000 records a second cost the loops."""
    with Stator(directory, "logs", name=name, own={"loops": 1}, platform=platform(encoding)) as s:
        address = s.address     # read from the log, while that is JSON
        drive(s, address, b"info", 0.2)
        quiet = drive(s, address, b"debug", seconds)
        written = drive(s, address, b"info", seconds)
        return {"part_of_a_core": (written[0] - quiet[0]) * 1e5,
                "records_per_second": round(written[1]),
                "dropped": s.metric("stator_logs_dropped_total")}


def scrape_time(directory, name="scrape"):
    """Seconds for GET /metrics with ten triggers: the median, and bytes."""
    triggers = {"http": {"kind": "http", "url": "127.0.0.1:0"}}
    for i in range(TRIGGERS - 1):
        triggers[f"tick{i}"] = {"kind": "cron", "attributes": {"interval": "1h"}}
    spec = {"triggers": triggers, "handler": handler_path("hello")}
    with Stator(directory, "hello", name=name, spec=spec) as s, Connection(s.scrape, 20) as c:
        times = []
        for _ in range(SCRAPES):
            begin = time.monotonic()
            size = len(c.ask("GET", "/metrics").body)
            times.append(time.monotonic() - begin)
    return {"seconds": statistics.median(times), "bytes": size, "triggers": TRIGGERS}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for encoding in ("console", "json"):
            print(json.dumps({"logging": encoding}
                             | logging_cost(Path(folder), encoding, args.seconds, encoding)))
        print(json.dumps({"scrape": "/metrics"} | scrape_time(Path(folder))))


if __name__ == "__main__":
    main()
