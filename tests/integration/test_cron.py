"""The cron trigger with real seconds: what events carry, when they come, what is counted, how it
ends."""

import json
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from stator_proc import Stator, handler_path, patience, run_cli, wait_until


class Cron:
    """A processor with cron triggers whose handler keeps a record; started by the first use."""

    def __init__(self, start, tmp_path: Path, triggers: dict, handler: str = "cron_record"):
        self.file = tmp_path / "record"
        self.file.touch()
        spec = {"triggers": {"http": {"kind": "http", "url": "127.0.0.1:0"}} | {
            name: {"kind": "cron"} | t for name, t in triggers.items()}}
        self.stator: Stator = start(handler, spec=spec, env={"RECORD": str(self.file)})

    def lines(self, what: str, name: str = "") -> list[dict[str, str]]:
        """Records so far: what is "begin" or "end"."""
        found = []
        for line in self.file.read_text(encoding="utf-8").splitlines(keepends=True):
            first, *rest = line.rstrip("\n").split("\t")
            fields = dict(part.split("=", 1) for part in rest)
            if first == what and line.endswith("\n") and name in ("", fields["name"]):
                found.append(fields)
        return found

    def wait(self, what: str, count: int, name: str = "") -> list[dict[str, str]]:
        """The first records, when there are so many."""
        return wait_until(lambda: len(found := self.lines(what, name)) >= count and found,
                          count * 2 + 5, f"{count} times {what}; {self.stator.report()}")[:count]


@pytest.fixture(name="cron")
def cron_fixture(start, tmp_path):
    """cron({name: trigger}) starts a processor with these triggers."""
    return lambda triggers, **options: Cron(start, tmp_path, triggers, **options)


def seconds_of(record: dict[str, str]) -> float:
    return int(record["timestamp"]) / 1e9


def test_every_second(cron):
    """Ticks of a schedule lie on whole seconds, each once, and the header says the same time."""
    c = cron({"tick": {"attributes": {"schedule": "*/1 * * * * *"}}})
    found = c.wait("begin", 3)
    times = [seconds_of(r) for r in found]
    assert all(t == int(t) for t in times)
    assert all(later - earlier >= 1 for earlier, later in zip(times, times[1:]))
    assert len({r["id"] for r in found}) == len(found)
    for r, t in zip(found, times):
        said = datetime.fromisoformat(r["scheduled"].replace("Z", "+00:00"))
        assert said == datetime.fromtimestamp(t, timezone.utc)
        assert r["scheduled"].endswith(".000Z")
    assert abs(times[-1] - time.time()) < patience(5)


@pytest.mark.parametrize("attributes", [{"schedule": "@every 1s"}, {"interval": "1s"},
                                        {"interval": "1s", "schedule": "0 0 1 1 *"}])
def test_interval(cron, attributes):
    """A fixed rate from the start on, not from the end of a handler; interval wins."""
    attributes = attributes | {"event": {"headers": {"x-sleep": 300}}}
    c = cron({"tick": {"attributes": attributes}})
    times = [seconds_of(r) for r in c.wait("begin", 4)]
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert all(abs(gap - round(gap)) < 0.05 and gap > 0.5 for gap in gaps), gaps


def test_fields(cron):
    """What the configuration says, and what it leaves out."""
    c = cron({
        "full": {"attributes": {"interval": "200ms", "event": {
            "body": "hello ${HOME}", "path": "/a/b", "method": "POST",
            "headers": {"x-number": 7, "Content-Type": "text/x-job"}}}},
        "bare": {"attributes": {"interval": "200ms", "concurrencyPolicy": "Forbid",
                                "jobBackoffLimit": 2}},
    })
    full, bare = c.wait("begin", 1, "full")[0], c.wait("begin", 1, "bare")[0]
    assert (full["kind"], full["body"], full["path"], full["method"]) == (
        "cron", "hello ${HOME}", "/a/b", "POST")
    assert (full["type"], full["number"], full["headers"]) == ("text/x-job", "7", "3")
    assert (bare["body"], bare["path"], bare["method"], bare["type"], bare["headers"]) == (
        "", "/", "", "", "1")
    assert not c.stator.log("jobBackoffLimit") and "jobBackoffLimit" not in c.stator.stderr()


def overlaps(c: Cron, seconds: float) -> int:
    """The most events that were running at once."""
    time.sleep(seconds)
    most = running = 0
    for line in c.file.read_text(encoding="utf-8").splitlines():
        running += 1 if line.startswith("begin") else -1
        most = max(most, running)
    return most


@pytest.mark.parametrize("concurrency, at_once", [("forbid", {1}), ("allow", {2, 3})])
def test_concurrency(cron, concurrency, at_once):
    """Forbidden, ticks wait for each other although there are workers; allowed, they do not."""
    c = cron({"tick": {"numWorkers": 3, "attributes": {
        "interval": "200ms", "concurrency": concurrency, "event": {"headers": {"x-sleep": 450}}}}})
    c.wait("begin", 2)
    assert overlaps(c, 1.5) in at_once


def test_replace(cron):
    """The tick that runs is answered as cancelled, and the next one starts."""
    c = cron({"tick": {"numWorkers": 2, "attributes": {
        "interval": "400ms", "concurrency": "replace", "event": {"headers": {"x-sleep": 600}}}}})
    c.wait("begin", 3)
    assert c.stator.wait_log("did not succeed")["outcome"] == "cancelled"
    assert c.stator.metric("stator_client_gone_total", trigger_id="tick") >= 1


@pytest.mark.parametrize("missed", ["skip", "once", "all"])
def test_missed(cron, missed):
    """While one runs others are missed: counted, or run afterwards."""
    c = cron({"tick": {"attributes": {
        "interval": "100ms", "missed": missed, "maxMissed": 2,
        "event": {"headers": {"x-sleep": 550}}}}})
    c.wait("end", 3)
    ends = [seconds_of(r) for r in c.lines("begin")]
    assert ends == sorted(ends) and len(set(ends)) == len(ends)
    assert c.stator.metric("stator_rejected_total", trigger_id="tick", reason="missed") >= 4
    assert c.stator.log("Ticks were missed")


def test_metrics_and_failures(cron):
    """Each tick is counted by its result, under the trigger's kind and name."""
    c = cron({"good": {"attributes": {"interval": "100ms"}},
              "bad": {"attributes": {"interval": "100ms", "event": {"headers": {"x-fail": "1"}}}}})
    c.wait("end", 3, "good")
    c.wait("end", 3, "bad")
    name = "nuclio_processor_handled_events_total"
    assert c.stator.metric(name, trigger_kind="cron", trigger_id="good", result="success") >= 2
    assert c.stator.metric(name, trigger_id="good", result="failure") == 0
    assert c.stator.metric(name, trigger_id="bad", result="failure") >= 2
    assert c.stator.wait_log("did not succeed")["outcome"] == "error"


def test_inline(cron):
    """A handler that never blocks runs on the loop itself."""
    c = cron({"tick": {"attributes": {"interval": "50ms"}}}, handler="describe")
    wait_until(lambda: c.stator.metric("nuclio_processor_handled_events_total", trigger_id="tick",
                                       result="success") >= 3)


def test_end_while_one_runs(cron):
    """SIGTERM waits for the tick that runs, and no other begins."""
    c = cron({"tick": {"attributes": {"interval": "300ms", "missed": "all",
                                      "event": {"headers": {"x-sleep": int(patience(1000))}}}}})
    c.wait("begin", 1)
    time.sleep(0.5)     # others wait by now
    took = c.stator.stop()
    assert took < patience(5)
    assert len(c.lines("begin")) == len(c.lines("end")) <= 2


def test_end_at_once(cron):
    """Nothing runs: the end waits for nothing."""
    c = cron({"tick": {"attributes": {"schedule": "0 0 1 1 *"}}})
    assert c.stator.stop() < patience(3)
    assert c.lines("begin") == []


def test_no_wake_ups(cron):
    """Between ticks the loops sleep."""
    c = cron({"yearly": {"attributes": {"schedule": "@yearly"}},
              "daily": {"attributes": {"interval": "24h"}}})
    time.sleep(0.5)
    loops = [t for name, ids in c.stator.threads().items() if name.startswith("st-loop")
             for t in ids]
    assert loops

    def switches() -> int:
        total = 0
        for t in loops:
            status = Path(f"/proc/{c.stator.pid}/task/{t}/status").read_text(encoding="ascii")
            total += int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
        return total
    before = switches()
    time.sleep(1.5)
    assert switches() - before <= 2


# ---- refused ----

@pytest.mark.parametrize("attributes, says", [
    ({}, "spec.triggers.tick.attributes: found neither schedule nor interval, expected one of "
         "them; an example is schedule: \"*/15 9-17 * * MON-FRI\""),
    ({"schedule": "61 * * * *"},
     "spec.triggers.tick.attributes.schedule: \"61 * * * *\", position 1: minute 61 is not within "
     "0-59; an example is \"*/15 9-17 * * MON-FRI\""),
    ({"schedule": "0 0 30 2 *"}, "position 5: there is no such day in these months"),
    ({"schedule": "@daily", "timeZone": "Europe/Nowhere"},
     "spec.triggers.tick.attributes.timeZone: no time zone \"Europe/Nowhere\""),
    ({"schedule": "CRON_TZ=No/Where @daily"},
     "spec.triggers.tick.attributes.schedule: no time zone \"No/Where\""),
    ({"schedule": "@daily", "event": {"headers": {"a b": "c"}}},
     "spec.triggers.tick.attributes.event.headers: \"a b\" is no header"),
    ({"schedule": "@daily", "missed": "never"}, "spec.triggers.tick.attributes.missed"),
    ({"interval": "soon"}, "spec.triggers.tick.attributes.interval"),
])
def test_refused(tmp_path, attributes, says):
    """The start fails, and tells trigger, field, position and an example."""
    file = tmp_path / "function.yaml"
    file.write_text(json.dumps({"spec": {
        "runtime": "native", "handler": handler_path("cron_record"),
        "disableDefaultHTTPTrigger": True,
        "triggers": {"tick": {"kind": "cron", "attributes": attributes}}}}), encoding="utf-8")
    done = run_cli("run", "--config", str(file))
    assert done.returncode == 1
    assert says in done.stderr
