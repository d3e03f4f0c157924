"""Random faults while a function reads keyed messages of a real Kafka.

    with Chaos(folder, Options(worker="python", messages=60_000, faults=12)) as chaos:
        verdict = chaos.run()
    verdict.check()

The processors of the function, up to three, reach the broker through toxiproxy; producer and checks
don't. Keys have partitions of their own, so that added partitions move none."""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from kafka_account import Account, Episode, Life, Repeat, explain
from kafka_broker import Broker, free_ports
from kafka_client import Client
from kafka_plan import PROXIES, Fault, make_plan
from stator_proc import Stator, patience, python_options, wait_until
from toxiproxy import Toxiproxy

# As tests/unit/handlers/record.c.
PYTHON = """
import os, struct, time
FD = os.open(os.environ["OUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
LIFE, PAUSE = int(os.environ["LIFE"]), int(os.environ["HANDLER_US"]) / 1e6
RECORD = struct.Struct("=IIHHId")

def handler(context, event):
    time.sleep(PAUSE)
    os.write(FD, RECORD.pack(int(event.body), os.getpid(), LIFE, event.shard_id, 0, time.time()))
"""
LOSSES = ("Partitions were taken away", "The group's positions could not be asked for",
          "Handlers took longer than")


@dataclass
class Options:
    """worker: native (processes), python (the native worker) or portable. gap: seconds between two
    faults, on average. handler_us: how long each message takes."""

    worker: str = "python"
    seed: int = 1
    messages: int = 2_000_000
    faults: int = 200
    gap: float = 2.0
    partitions: int = 16
    keys: int = 1000
    lanes: int = 4
    workers: int = 4
    handler_us: int = 500
    session: float = 3.0
    rate: int = 0               # messages a second; 0: each fault's share at once


@dataclass
class Verdict:
    """What came out of a run."""

    options: Options
    faults: Counter[str]
    seconds: float
    lost: list[int]
    disorder: list[str]
    causes: Counter[str]
    unexplained: list[Repeat]
    again_at_the_end: int        # handled again after everything had been committed
    silences: dict[str, list[float]] = field(default_factory=dict)   # longest, after each fault

    def problems(self) -> list[str]:
        """What must not have happened; empty: all is well."""
        found = []
        if self.lost:
            found.append(f"{len(self.lost)} messages were lost, first {self.lost[:5]}")
        if self.disorder:
            found.append(f"{len(self.disorder)} messages out of order, first {self.disorder[:3]}")
        if self.unexplained:
            found.append(f"{len(self.unexplained)} repeats that no fault explains, "
                         f"first {self.unexplained[:3]}")
        if self.again_at_the_end:
            found.append(f"{self.again_at_the_end} repeats of what was committed")
        return found

    def check(self) -> None:
        assert not self.problems(), "\n".join(self.problems())


class LoadFailed(Exception):
    """The load's own producer gave messages up: the run says nothing about processors."""


class Load:
    """Sends numbered messages as fast as it may, or at a rate; a thread."""

    def __init__(self, chaos: "Chaos"):
        self.o, self.account, self.topic = chaos.options, chaos.account, chaos.topic
        self.partitions = [i % self.o.partitions for i in range(self.o.keys)]  # of each key
        self.allowed = self.sent = 0
        self.errors: list[Any] = []
        self.began = time.monotonic()
        self._stop = False
        # A message is given up only when the run is.
        self.producer = Producer({"bootstrap.servers": chaos.broker.address(), "linger.ms": 5,
                                  "enable.idempotence": True, "message.timeout.ms": 0,
                                  "topic.metadata.refresh.interval.ms": 1000, "log_level": 2})
        # What is sent before the client knows the topic fails where a broker that comes back tells
        # of some of its partitions first.
        def known() -> bool:
            found = self.producer.list_topics(self.topic, 10).topics[self.topic]
            return len(found.partitions) == self.o.partitions
        wait_until(known, 60, "the topic")
        self.thread = threading.Thread(target=self._send)
        self.thread.start()

    def _send(self) -> None:
        rand = random.Random(self.o.seed)
        last = [-1] * 100_000
        while self.sent < self.o.messages and not self._stop:
            may = min(self.allowed, self.o.messages, self.sent + 200)
            if self.o.rate:
                may = min(may, int((time.monotonic() - self.began) * self.o.rate))
            for n in range(self.sent, may):
                key = rand.randrange(len(self.partitions))
                self.account.before[n], last[key] = last[key], n
                self._put(n, key)
            self.producer.poll(0 if may > self.sent else 0.005)
            self.sent = max(may, self.sent)
        self.producer.flush(0 if self._stop else patience(120))

    def _put(self, number: int, key: int) -> None:
        while not self._stop:
            try:
                self.producer.produce(self.topic, key=f"k{key}", value=str(number),
                                      partition=self.partitions[key], on_delivery=self._report)
                return
            except (BufferError, KafkaException):  # full, or not yet heard of the partition
                self.producer.poll(0.05)

    def _report(self, error: Any, _message: Any) -> None:
        if error is not None:
            self.errors.append(error)

    def add_keys(self, partition: int) -> None:
        """Keys that live in a new partition."""
        self.partitions += [partition] * (self.o.keys // self.o.partitions + 1)

    def stop(self) -> None:
        self._stop = True
        self.thread.join()


class Chaos:
    """A broker behind proxies, a topic, a load and the processors. proxies=False: without toxiproxy,
    and without the faults that need it."""

    def __init__(self, folder: Path, options: Options, say: Any = lambda text: None,
                 proxies: bool = True):
        self.dir, self.options, self.say = Path(folder), options, say
        self.out = self.dir / "out"
        self.out.touch()
        self.plan = [f for f in make_plan(options.seed, options.faults, options.gap,
                                          options.session)
                     if proxies or f.kind not in ("delay", "stall", "cut")]
        self.members: list[Stator] = []
        self.lives: dict[int, Life] = {}
        self.numbers: dict[int, int] = {}       # id of a Stator -> its life
        self.processors: list[Stator] = []      # all that ever were
        self.episodes: list[Episode] = []
        self.ends: list[tuple[float, Episode, Any]] = []  # when to end what lasts
        self.load: Load | None = None
        self.proxy = Toxiproxy(self.dir) if proxies else None
        ports = free_ports(PROXIES + 4)
        outside, inside = ports[:PROXIES], ports[PROXIES:]
        try:
            self.broker = Broker(self.dir, proxied=outside if proxies else (),
                                 ports=inside if proxies else inside[:2], config={
                                     "broker.session.timeout.ms": 2000,
                                     "broker.heartbeat.interval.ms": 500})
        except BaseException:
            if self.proxy:
                self.proxy.close()
            raise
        self.addresses = [self.broker.address()]
        if self.proxy:
            for i, port in enumerate(outside):
                self.proxy.add(str(i), port, self.broker.ports[f"PROXY{i + 1}"])
            self.addresses = [f"127.0.0.1:{port}" for port in outside]
        self.kafka = Client(self.broker.address())
        self.topic = self.kafka.create_topic(options.partitions)
        self.account = Account(self.out, options.messages)

    def __enter__(self) -> "Chaos":
        return self

    def __exit__(self, *_: object) -> None:
        if self.load:
            self.load.stop()
        for s in self.processors:
            s.kill()
        if self.broker.is_running():
            self.broker.kill()
        if self.proxy:
            self.proxy.close()

    # Processors

    def start(self) -> Stator:
        """One more."""
        o, life = self.options, len(self.processors)
        trigger = {"kind": "kafka", "numWorkers": o.workers, "lanes": o.lanes, "attributes": {
            "topics": [self.topic], "brokers": [self.addresses[life % len(self.addresses)]],
            "consumerGroup": "chaos", "initialOffset": "earliest",
            "sessionTimeout": f"{o.session:g}s", "heartbeatInterval": f"{o.session / 10:g}s",
            "librdkafka": {"topic.metadata.refresh.interval.ms": 2000}}}
        spec = {"triggers": {"k": trigger}, "env": [
            {"name": "OUT", "value": str(self.out)}, {"name": "LIFE", "value": str(life)},
            {"name": "HANDLER_US", "value": str(o.handler_us)}]}
        folder = self.dir / f"p{life}"
        folder.mkdir()
        if o.worker == "native":
            s = Stator(folder, "record", spec=spec, own={"isolation": "process"}, admin=True)
        else:
            s = Stator(folder, "", **python_options(folder, PYTHON, o.worker, spec=spec))
        self.processors.append(s)
        self.numbers[id(s)] = life
        self.lives[life] = Life(life)
        return s

    def _workers(self, s: Stator) -> list[int]:
        return sorted(w["pid"] for w in s.status()["pools"][0]["workers"] if "pid" in w)

    # Faults

    def _note(self, kind: str, **more: Any) -> Episode:
        self.episodes.append(Episode(kind, time.time(), None, **more))
        return self.episodes[-1]

    def do(self, fault: Fault) -> Episode:
        """Returns when it has been done; what lasts is ended by _mend()."""
        member = self.members[int(fault.target * len(self.members))]
        name = str(int(fault.target * PROXIES))
        if fault.kind in ("broker", "pause"):
            self._mend(only=self.broker)
        elif fault.kind in ("delay", "stall", "cut"):
            self._mend(only=name)
        if fault.kind == "worker":
            pids = self._workers(member)
            pid = pids[int(fault.worker * len(pids))] if pids else -1
            episode = self._note("worker", pid=pid)
            if pid > 0:
                os.kill(pid, signal.SIGKILL)
        elif fault.kind == "processor":
            episode = self._note("processor", life=self.numbers[id(member)])
            member.kill()
            self.members[self.members.index(member)] = self.start()
        elif fault.kind == "join":
            episode = self._note("join")
            self.members.append(self.start())
        elif fault.kind == "leave":
            episode = self._note("leave", life=self.numbers[id(member)])
            self.members.remove(member)
            member.stop(60)
        elif fault.kind == "partition":
            episode = self._note("partition")
            self._add_partition()
        elif fault.kind == "broker":
            episode = self._note("broker")
            self.broker.kill()
            self.broker.start()
        else:
            return self._do_lasting(fault, name)
        episode.end = time.time()
        return episode

    def _add_partition(self) -> None:
        assert self.load
        self._mend(only=self.broker)
        count = len(set(self.load.partitions))

        def added() -> bool:
            try:
                self.kafka.add_partitions(self.topic, count + 1)
            except KafkaException as error:     # the broker still finds itself
                return error.args[0].code() == KafkaError.INVALID_PARTITIONS  # it was, unheard
            return True
        wait_until(added, 30, "one more partition")
        self.load.add_keys(count)

    def _do_lasting(self, fault: Fault, name: str) -> Episode:
        episode = self._note(fault.kind)
        target: Any = name
        if fault.kind == "pause":
            self.broker.signal(signal.SIGSTOP)
            target = self.broker
        else:
            assert self.proxy
            if fault.kind == "delay":
                self.proxy.delay(name, fault.milliseconds)
            elif fault.kind == "stall":
                self.proxy.stall(name)
            else:
                self.proxy.cut(name)
        self.ends.append((time.monotonic() + fault.seconds, episode, target))
        return episode

    def _mend(self, only: Any = None, wait: bool = True) -> None:
        """Ends what lasts: all, or that of one target, when its time has come (wait=False: only that
        whose time is over)."""
        for entry in sorted(self.ends, key=lambda e: e[0]):
            at, episode, target = entry
            if only is not None and target is not only and target != only:
                continue
            left = at - time.monotonic()
            if left > 0 and not wait:
                continue
            time.sleep(max(0.0, left))
            if target is self.broker:
                self.broker.signal(signal.SIGCONT)
            else:
                assert self.proxy
                self.proxy.mend(target)
            episode.end = time.time()
            self.ends.remove(entry)

    # The run

    def run(self) -> Verdict:
        """All of the plan; then what became of the messages."""
        begin = time.monotonic()
        self.members.append(self.start())
        self.load = Load(self)
        share = self.options.messages / (len(self.plan) + 1)
        for number, fault in enumerate(self.plan):
            self.load.allowed = int(share * (number + 1))
            self._pass(fault.gap)
            self.account.read()
            episode = self.do(fault)
            self.say(f"{time.monotonic() - begin:7.1f} s {number + 1:4d} {fault.kind:9s} "
                     f"{(episode.end or time.time()) - episode.begin:5.2f} s   "
                     f"{len(self.members)} processors, sent {self.load.sent}, "
                     f"handled {self.account.handled}, again {len(self.account.repeats)}")
        self.load.allowed = self.options.messages
        self._mend()
        self.load.thread.join()
        if self.load.errors:
            raise LoadFailed(f"{len(self.load.errors)} messages, {self.load.errors[:3]}")
        assert self.load.sent == self.options.messages
        self._settle()
        seconds = time.monotonic() - begin
        for s in self.members:
            s.stop(60)
        return self._verdict(seconds, self._handled_again())

    def _pass(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._mend(wait=False)
            time.sleep(min(0.05, left))
        self._mend(wait=False)

    def _settle(self) -> None:
        """Until all has been handled and committed, or nothing happens any more."""
        seen, since = -1, time.monotonic()
        while self.account.handled < self.account.count:
            self.account.read()
            if self.account.handled != seen:
                seen, since = self.account.handled, time.monotonic()
            elif time.monotonic() - since > patience(20 + 2 * self.options.session):
                return
            time.sleep(0.05)

        def all_committed() -> bool:
            try:
                return self.kafka.lag("chaos", self.topic) == 0
            except KafkaException:
                return False
        wait_until(all_committed, 30, "no lag")

    def _handled_again(self) -> int:
        """By a processor that starts when all is done."""
        self.account.read()
        before = sum(self.account.times)
        if self.account.handled < self.account.count:
            return 0
        s = self.start()
        s.wait_log("Partitions were assigned", 30)
        time.sleep(1)
        s.stop(60)
        repeats = len(self.account.repeats)
        self.account.read()
        del self.account.repeats[repeats:]
        return sum(self.account.times) - before

    def _losses(self) -> None:
        """From the logs."""
        for s in self.processors:
            for record in (r for text in LOSSES for r in s.log(text)):
                if record["message"].startswith(LOSSES[0]) and not record["lost"]:
                    continue
                self.lives[self.numbers[id(s)]].losses.append(record["time"] / 1000)

    def _verdict(self, seconds: float, again: int) -> Verdict:
        self._losses()
        slack = patience(1)
        causes, unexplained = explain(self.account, self.episodes, self.lives, slack,
                                      patience(self.options.session))
        silences: dict[str, list[float]] = {}
        for e, following in zip(self.episodes, [*self.episodes[1:], None], strict=True):
            end = following.begin if following else e.begin + 10
            silences.setdefault(e.kind, []).append(self.account.longest_silence(e.begin, end))
        return Verdict(self.options, Counter(f.kind for f in self.plan), seconds,
                       self.account.missing(), self.account.disorder, causes, unexplained, again,
                       silences)

    def save(self, file: Path) -> None:
        """The episodes, for a look at what went wrong."""
        file.write_text("".join(json.dumps(vars(e)) + "\n" for e in self.episodes), "utf-8")
