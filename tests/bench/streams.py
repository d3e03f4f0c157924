"""Streams of messages: a real broker, topics that were filled before, and consumers whose rate is
taken between FIRST and LAST of their progress, so that start and rebalance do not count."""

import json
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import procs
import subject

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import kafka_broker  # noqa: E402

FIRST, LAST = 0.1, 0.9
GIVE_UP = 120       # seconds that one run may take
# What makes a run worthless: messages that were given up, or handled twice.
TROUBLE = ("stator_acknowledged_failures_total", "stator_retries_total",
           "stator_dead_letters_total")


@dataclass(frozen=True)
class Messages:
    """Contents of a topic. Message i has key i % keys; a key's partition is its number modulo the
    number of partitions."""
    count: int
    size: int
    keys: int
    partitions: int


@dataclass(frozen=True)
class Stream:
    """What a consumer of one run is told."""
    program: Path       # limit_kafka
    brokers: str
    topic: str
    target: str         # an empty topic of this run
    group: str          # a new group
    count: int
    messages: Messages
    metrics: int        # port for the subject's metrics

    def limit(self, mode):
        """argv of limit_kafka."""
        topic = self.target if mode == "produce" else self.topic
        return [str(self.program), "-b", self.brokers, "-t", topic, "-n", str(self.count), "-s",
                str(self.messages.size), "-k", str(self.messages.keys), "-p",
                str(self.messages.partitions), "-g", self.group, "-o", self.target, mode]

    def environment(self):
        """Variables of the subject's configurations."""
        return {"BENCH_BROKERS": self.brokers, "BENCH_TOPIC": self.topic,
                "BENCH_TARGET": self.target, "BENCH_GROUP": self.group}


class Kafka:
    """A broker of one node on the cores of the caller, and its topics."""

    def __init__(self, directory, out):
        self.program = out / "limit_kafka"
        self.broker = kafka_broker.Broker(directory)
        self.topics = {}
        self.serial = 0

    def cpu(self):
        """CPU seconds so far, as of procs.Process."""
        return procs.cpu_seconds(self.broker.popen.pid)

    def run(self, topic, mode, messages=None, group="none"):
        """Runs limit_kafka to its end; returns what it printed."""
        words = [] if messages is None else [
            "-n", str(messages.count), "-s", str(messages.size), "-k", str(messages.keys), "-p",
            str(messages.partitions)]
        done = subprocess.run([str(self.program), "-b", self.broker.address(), "-t", topic, "-g",
                               group, *words, mode], capture_output=True, text=True,
                              timeout=2 * GIVE_UP, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"limit_kafka {mode}: {done.stderr.strip()}")
        return done.stdout

    def topic(self, messages):
        """Name of a topic with these messages; the first call fills it."""
        if messages not in self.topics:
            self.topics[messages] = name = f"in-{len(self.topics)}"
            self.run(name, "fill", messages)
        return self.topics[messages]

    def stream(self, messages, count):
        """A stream for one run, with a new group and a new target."""
        self.serial += 1
        target = f"out-{self.serial}"
        self.run(target, "create", messages)
        return Stream(self.program, self.broker.address(), self.topic(messages), target,
                      f"bench-{self.serial}", min(count, messages.count), messages,
                      procs.free_port())

    def end(self, topic):
        """Sum of a topic's end offsets."""
        return int(self.run(topic, "ends"))

    def stop(self):
        """Ends the broker."""
        self.broker.kill()


class Committed:
    """Follows what a group has committed."""

    def __init__(self, stream, core, log):
        self.process = procs.Process(stream.limit("committed"), core, log,
                                     stdout=subprocess.PIPE)

    def cpu(self):
        """CPU seconds so far."""
        return self.process.cpu()

    def read(self):
        """The sum of the group's offsets now."""
        line = self.process.popen.stdout.readline()
        if not line:
            self.process.fail("ended")
        return int(line)

    def stop(self):
        """Ends it."""
        self.process.stop()
        self.process.popen.stdout.close()


def timed(consumer, others, progress, count):
    """Follows progress() from FIRST to LAST of count. Returns a result with the consumer's CPU."""
    window = first = None
    end = time.monotonic() + GIVE_UP
    while time.monotonic() < end:
        done = progress()
        if window is None and done >= count * LAST:
            raise RuntimeError("too fast to be timed: raise the number of messages")
        if window is None and done >= count * FIRST:
            window, first = procs.Window(consumer, *others), done
        elif window is not None and done >= count * LAST:
            wall, trees, foreign = window.close()
            return {"total": done - first, "req_s": (done - first) / wall, "error": None,
                    "server_cpu": trees[0], "wall": wall, "foreign": foreign}
        if consumer.popen.poll() is not None:
            consumer.fail(f"exited with {consumer.popen.returncode}")
    raise RuntimeError(f"{done} of {count} messages in {GIVE_UP} s")


def trouble(stream):
    """What the subject's metrics say against its run, or None."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stream.metrics}/metrics", timeout=10) as page:
        lines = [line.decode().rpartition(" ") for line in page if not line.startswith(b"#")]
    wrong = {name: float(value) for name, _, value in lines
             if name.partition("{")[0] in TROUBLE and float(value) > 0}
    return f"{wrong}" if wrong else None


def run_subject(stream, kafka, argv, core, scratch, has_metrics=True):
    """One run of a subject, timed by what its group has committed."""
    watch = Committed(stream, None, scratch / "committed.log")
    try:
        process = procs.Process(argv, core, scratch / "subject.log", cwd=subject.ROOT,
                                env=stream.environment())
        try:
            result = timed(process, [kafka, watch], watch.read, stream.count)
            return {**result, "error": trouble(stream) if has_metrics else None}
        finally:
            process.stop()
    finally:
        watch.stop()


def run_limit(kafka, argv, core, scratch):
    """One run of limit_kafka, which times itself."""
    process = procs.Process(argv, core, scratch / "limit.log", stdout=subprocess.PIPE)
    try:
        window = None
        for line in process.popen.stdout:
            if line == b"begin\n":
                window = procs.Window(kafka)
            elif line == b"end\n":
                wall, _, foreign = window.close()
            else:
                result = json.loads(line)
                own = result["server_cpu"] / wall
                return {**result, "error": None, "foreign": max(0.0, foreign - own)}
        process.popen.wait()
        process.fail(f"exited with {process.popen.returncode}")
    finally:
        process.stop()
        process.popen.stdout.close()
