#!/usr/bin/env python3
"""Checks the cases of streams against a real broker: that limit_kafka counts what there is, that
each subject takes all messages and commits them, and that a subject that fails is found out."""

import argparse
import tempfile
import time
from pathlib import Path

import cases
import procs
import streams
import subject
from stator_proc import patience

FEW = streams.Messages(3000, 100, keys=100, partitions=4)
SECONDS = 60


def run_limit(kafka, scratch, mode):
    """One run of limit_kafka; returns the stream it had."""
    stream = kafka.stream(FEW, FEW.count)
    result = streams.run_limit(kafka, stream.limit(mode), None, scratch)
    assert result["error"] is None and result["total"] == FEW.count * 8 // 10, result
    assert result["wall"] > 0 and result["server_cpu"] > 0 and result["req_s"] > 0, result
    return stream


def check_limit_reads(kafka, scratch):
    """Without a group and in one, which commits everything."""
    assert kafka.end(kafka.topic(FEW)) == FEW.count
    run_limit(kafka, scratch, "consume")
    stream = run_limit(kafka, scratch, "group")
    wait_committed(stream, scratch, FEW.count)


def check_limit_writes(kafka, scratch):
    """What it says it has published is there."""
    for mode in ("produce", "copy"):
        stream = run_limit(kafka, scratch, mode)
        assert kafka.end(stream.target) == FEW.count, mode


def wait_committed(stream, scratch, count):
    """Until the group has committed that many messages; never more."""
    watch = streams.Committed(stream, None, scratch / "committed.log")
    end = time.monotonic() + patience(SECONDS)
    try:
        while (found := watch.read()) != count:
            assert found < count and time.monotonic() < end, f"{found} of {count} committed"
    finally:
        watch.stop()


def run_subject(kafka, scratch, name, handler=None):
    """The subject reads all messages; returns its stream and what there is to complain of."""
    stream = kafka.stream(FEW, FEW.count)
    argv = cases.subject_command(name, cases.Place(subject.OUT, scratch, None, stream))
    if handler is not None:
        config = scratch / "other.yaml"
        text = Path(argv[3]).read_text(encoding="utf-8")
        config.write_text(text.replace(":handler", handler), encoding="utf-8")
        argv[3] = str(config)
    process = procs.Process(argv, None, scratch / "subject.log", cwd=subject.ROOT,
                            env=stream.environment())
    try:
        wait_committed(stream, scratch, FEW.count)
        wrong = streams.trouble(stream)
    finally:
        process.stop(grace=patience(30))
    assert process.popen.returncode == 0, (scratch / "subject.log").read_text()[-2000:]
    return stream, wrong


def check_subject(kafka, scratch, name, publishes):
    """It handles all messages well."""
    stream, wrong = run_subject(kafka, scratch, name)
    assert wrong is None, wrong
    assert kafka.end(stream.target) == (FEW.count if publishes else 0)


def check_failures(kafka, scratch):
    """A handler that raises commits everything, as the trigger does; its run must not count."""
    _, wrong = run_subject(kafka, scratch, "stator-kafka-python", ":batch")
    assert wrong is not None and str(FEW.count) in wrong, wrong


def check_window(_kafka, scratch):
    """The rate is that between FIRST and LAST; what is faster than the look at it is refused."""
    process = procs.Process(["sleep", "1000"], None, scratch / "sleep.log")
    try:
        steps = iter([0, 50, 110, 500, 890, 910])
        result = streams.timed(process, [], lambda: next(steps), 1000)
        assert (result["total"], result["error"]) == (800, None), result
        assert abs(result["req_s"] * result["wall"] - 800) < 1, result
        steps = iter([0, 950])
        try:
            streams.timed(process, [], lambda: next(steps), 1000)
            raise AssertionError("timed")
        except RuntimeError as error:
            assert "too fast" in str(error)
    finally:
        process.stop()


def main():
    """Runs every check; the exit status is 1 if any failed."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", type=Path, default=subject.OUT, help="where the built programs are")
    out = p.parse_args().out
    found = [c for c in cases.CASES.values() if c.runner == "kafka"]
    subjects = {name: case.echo for case in found for name in case.subjects}
    checks = [("window", check_window, ()), ("limit reads", check_limit_reads, ()),
              ("limit writes", check_limit_writes, ()), ("failures", check_failures, ()),
              *((name, check_subject, (name, echo)) for name, echo in subjects.items())]
    failed = 0
    with tempfile.TemporaryDirectory(dir=out, prefix="check-") as directory:
        scratch = Path(directory)
        kafka = streams.Kafka(scratch, out)
        try:
            for name, check, args in checks:
                try:
                    check(kafka, scratch, *args)
                    print(f"ok    {name}", flush=True)
                except (AssertionError, RuntimeError, OSError) as error:
                    failed += 1
                    print(f"FAIL  {name}: {error}", flush=True)
        finally:
            kafka.stop()
    print(f"{len(checks) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    raise SystemExit(main())
