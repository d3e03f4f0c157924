"""Slots: the plan that `stator slots` shows is the affinity that the threads really have."""

import json
import os
import re
from pathlib import Path

import pytest
from stator_proc import Stator, run_cli

CPUS = sorted(os.sched_getaffinity(0))
several = pytest.mark.skipif(len(CPUS) < 2, reason="a single CPU has nothing to divide")


def cpu_set(text: str) -> set[int]:
    """The CPUs of "0-2,5"."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def affinity(s: Stator, prefix: str) -> dict[str, set[int]]:
    """CPUs that each thread whose name begins so may use, as the kernel has it."""
    found = {}
    for task in Path(f"/proc/{s.pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        if re.fullmatch(prefix + r"\d+", name):
            status = (task / "status").read_text()
            found[name] = cpu_set(re.search(r"Cpus_allowed_list:\s*(\S+)", status)[1])
    return dict(sorted(found.items()))


def slot_info(s: Stator) -> dict[str, dict[str, str]]:
    """Labels of stator_slot_info by slot."""
    labels = [dict(series.labels) for series in s.metrics().find("stator_slot_info")]
    return {found["slot"]: found for found in labels}


def plan(*words: str) -> dict:
    """What `stator slots --json` prints."""
    done = run_cli("slots", "--json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def is_throttled() -> bool:
    """A CPU quota below the number of CPUs: `auto` does not pin then."""
    return 0 < plan()["topology"]["cpuQuota"] < len(CPUS)


# Threads

def test_never_leaves_all_cpus_to_everybody(start):
    s = start("sleep", workers=2, own={"pin": "never"})
    assert affinity(s, "st-w") == {"st-w0": set(CPUS), "st-w1": set(CPUS)}
    assert affinity(s, "st-loop") == {"st-loop0": set(CPUS), "st-loop1": set(CPUS)}
    for info in slot_info(s).values():
        assert (info["pinned"], cpu_set(info["cpus"])) == ("false", set(CPUS))


@several
def test_auto_gives_each_worker_its_own_cpus(start):
    """Where there is at least one for each."""
    workers = min(len(CPUS), 4)
    s = start("sleep", workers=workers)
    found = affinity(s, "st-w")
    assert len(found) == workers
    if is_throttled():
        assert all(cpus == set(CPUS) for cpus in found.values())
        return
    assert sum(len(cpus) for cpus in found.values()) == len(set().union(*found.values()))
    assert set().union(*found.values()) == set(CPUS)
    infos = slot_info(s)
    for i in range(workers):
        assert cpu_set(infos[f"cpu{i}"]["cpus"]) == found[f"st-w{i}"]
        assert infos[f"cpu{i}"]["pinned"] == "true"
    # Loops and the others go where there is room.
    assert set(map(frozenset, affinity(s, "st-loop").values())) == {frozenset(CPUS)}


def test_auto_does_not_pin_more_workers_than_cpus(start):
    s = start("sleep", workers=len(CPUS) + 1)
    assert all(cpus == set(CPUS) for cpus in affinity(s, "st-w").values())


@several
def test_always_pins_also_when_cpus_are_shared(start):
    workers = len(CPUS) + 1
    s = start("sleep", workers=workers, own={"pin": "always"})
    found = list(affinity(s, "st-w").values())
    assert len(found) == workers
    assert all(len(cpus) == 1 for cpus in found)
    assert set().union(*found) == set(CPUS)


@several
def test_inline_workers_pin_their_loops(start):
    if is_throttled():
        pytest.skip("auto does not pin below a CPU quota")
    s = start("hello", own={"loops": 2})
    found = affinity(s, "st-loop")
    assert found["st-loop0"] and not found["st-loop0"] & found["st-loop1"]
    assert found["st-loop0"] | found["st-loop1"] == set(CPUS)


@several
def test_replacement_has_the_slot_of_the_stuck_worker(start):
    s = start("hang", workers=2, own={"pin": "always"}, spec={"eventTimeout": "150ms"})
    before = affinity(s, "st-w")
    assert s.post(b"hang").status == 408
    s.wait_metric(2, "stator_workers", state="idle")
    assert affinity(s, "st-w") == before  # three threads, two names
    for ids in s.threads().items():
        if ids[0] in before:
            for tid in ids[1]:
                assert os.sched_getaffinity(tid) == before[ids[0]]


def test_affinity_of_the_parent_is_respected(start):
    """A CPU that the container does not have is never used."""
    one = CPUS[-1]
    s = start("sleep", workers=2, own={"pin": "always"}, prefix=["taskset", "-c", str(one)])
    for threads in s.threads().values():
        for tid in threads:
            assert os.sched_getaffinity(tid) == {one}


def test_handler_is_told_its_slot(start):
    """The log names the slots; the handler `count` checks that it was given a name."""
    s = start("count", workers=2)
    assert {r["slot"] for r in s.log("Slot")} == {"cpu0", "cpu1"}
    assert s.get().status == 200


# Command

def test_slots_as_json():
    found = plan()
    topology = found["topology"]
    assert cpu_set(topology["cpus"]) == set(CPUS)
    assert topology["cpuCount"] == len(CPUS)
    assert topology["memoryLimit"] > 0 and topology["numaNodes"] >= 1
    assert 1 <= topology["loops"] <= len(CPUS)
    assert [slot["name"] for slot in found["slots"]] == [
        f"cpu{i}" for i in range(topology["loops"])]
    assert set().union(*(cpu_set(slot["cpus"]) for slot in found["slots"])) <= set(CPUS)


@pytest.mark.parametrize("pin", ["auto", "never", "always"])
def test_slots_of_a_configuration_are_those_of_the_processor(start, pin):
    s = start("sleep", workers=2, own={"pin": pin})
    slots = {slot["name"]: slot for slot in plan("--config", str(s.dir / "test-function.yaml"))[
        "slots"]}
    infos = slot_info(s)
    assert set(slots) == set(infos) == {"cpu0", "cpu1"}
    for name, slot in slots.items():
        assert slot["cpus"] == infos[name]["cpus"]
        assert str(slot["pinned"]).lower() == infos[name]["pinned"]
        assert str(slot["numaNode"]) == infos[name]["numa_node"]


@pytest.mark.parametrize("handler, workers", [("hello", 3), ("sleep", 1)])
def test_slots_of_triggers_without_numworkers(start, handler, workers):
    """One a loop for a handler that runs on them, else one a trigger."""
    s = start(handler, own={"loops": 3})
    slots = plan("--config", str(s.dir / "test-function.yaml"))["slots"]
    assert [slot["name"] for slot in slots] == list(slot_info(s))
    assert len(slots) == workers


def test_slots_of_a_shared_pool(tmp_path):
    """Two triggers, one pool; and the handler, which isn't there, may be anything."""
    file = tmp_path / "function.yaml"
    pool = "numWorkers: 2, workerAllocatorName: both"
    file.write_text("spec: {runtime: native, handler: gone.so, triggers: "
                    f"{{a: {{kind: http, {pool}}}, "
                    f"b: {{kind: cron, {pool}, attributes: {{interval: 1h}}}}}}}}\n")
    done = run_cli("slots", "--json", "--config", str(file))
    assert done.returncode == 0 and len(json.loads(done.stdout)["slots"]) == 2
    assert "gone.so" in done.stderr and len(done.stderr.splitlines()) == 1


def test_slots_as_text():
    done = run_cli("slots")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("CPUs ") and f"({len(CPUS)})" in lines[0]
    assert any(line.startswith("slot cpu0: CPUs ") for line in lines)


@pytest.mark.parametrize("words, said", [
    (["--jsn"], "did you mean --json"),
    (["--config"], "needs a value"),
    (["x"], "takes no argument"),
])
def test_wrong_usage_is_one_line(words, said):
    done = run_cli("slots", *words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr and "type: stator slots" in done.stderr
