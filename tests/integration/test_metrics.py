"""What /metrics says: Nuclio's names and labels, ours, the process's; and its form."""

import os
import subprocess
import time

import pytest
from stator_proc import ROOT, patience

NUCLIO_LABELS = {"instance", "namespace", "function", "project", "trigger_kind", "trigger_id"}

# Name without nuclio_processor_: type, further labels. Dashboards and autoscalers know these.
NUCLIO = {
    "handled_events_total": ("counter", {"result"}),
    "handled_events_duration_milliseconds_sum": ("counter", {"worker_index"}),
    "handled_events_duration_milliseconds_count": ("counter", {"worker_index"}),
    "worker_allocation_count": ("counter", set()),
    "worker_allocation_total": ("counter", {"result"}),
    "worker_allocation_wait_duration_milliseconds_sum": ("counter", set()),
    "worker_allocation_workers_available_percentage": ("counter", set()),
}

# Name without stator_: type, labels beside function.
OWN = {
    "events_in_flight": ("gauge", {"trigger_id"}),
    "event_duration_seconds": ("histogram", {"trigger_id"}),
    "queue_events": ("gauge", {"trigger_id"}),
    "queue_wait_seconds": ("histogram", {"trigger_id"}),
    "workers": ("gauge", {"trigger_id", "state"}),
    "worker_restarts_total": ("counter", {"trigger_id", "reason"}),
    "connections": ("gauge", set()),
    "bytes_total": ("counter", {"direction"}),
    "body_memory_bytes": ("gauge", set()),
    "logs_dropped_total": ("counter", set()),
    "slot_info": ("gauge", {"slot", "cpus", "pinned", "numa_node"}),
    "ready_seconds": ("gauge", set()),
    "build_info": ("gauge", {"version", "commit"}),
}

PROCESS = {
    "cpu_seconds_total": "counter",
    "resident_memory_bytes": "gauge",
    "virtual_memory_bytes": "gauge",
    "open_fds": "gauge",
    "max_fds": "gauge",
    "start_time_seconds": "gauge",
}


def label_sets(samples, name, kind):
    """The label names of each series of the family, without a histogram's own."""
    suffix = "_bucket" if kind == "histogram" else ""
    found = samples.find(name + suffix)
    assert found, name
    return [{label for label, _ in s.labels} - {"le"} for s in found]


@pytest.fixture(name="samples", scope="module")
def samples_fixture(shared):
    s = shared("echo_blocking")
    for _ in range(3):
        assert s.post(b"x").status == 200
    s.wait_metric(3, "nuclio_processor_handled_events_total")
    return s.metrics()


@pytest.mark.parametrize("name", NUCLIO)
def test_names_and_labels_of_nuclio(samples, name):
    kind, labels = NUCLIO[name]
    full = f"nuclio_processor_{name}"
    assert samples.types[full] == kind
    for found in label_sets(samples, full, kind):
        assert found == NUCLIO_LABELS | labels


def test_values_of_labels_of_nuclio(samples):
    handled = samples.find("nuclio_processor_handled_events_total")
    assert sorted(dict(s.labels)["result"] for s in handled) == ["failure", "success"]
    for series in handled:
        labels = dict(series.labels)
        assert labels["instance"] == "nuclio-test" or labels["instance"].endswith("-test")
        assert (labels["function"], labels["trigger_kind"]) == ("test", "http")
        assert (labels["trigger_id"], labels["project"]) == ("http", "default")
    allocations = samples.find("nuclio_processor_worker_allocation_total")
    assert {dict(s.labels)["result"] for s in allocations} == {
        "success_immediate", "success_after_wait", "error_timeout"}
    workers = samples.find("nuclio_processor_handled_events_duration_milliseconds_count")
    assert {dict(s.labels)["worker_index"] for s in workers} == {"0", "1", "2", "3"}
    assert sum(workers.values()) == 3


@pytest.mark.parametrize("name", OWN)
def test_names_and_labels_of_our_own(samples, name):
    kind, labels = OWN[name]
    assert samples.types[f"stator_{name}"] == kind
    for found in label_sets(samples, f"stator_{name}", kind):
        assert found == {"function"} | labels


@pytest.mark.parametrize("name", PROCESS)
def test_process_families(samples, name):
    assert samples.types[f"process_{name}"] == PROCESS[name]
    assert label_sets(samples, f"process_{name}", PROCESS[name]) == [set()]


def test_process_values(shared):
    """Against what /proc says from outside."""
    s = shared("echo_blocking")
    assert abs(s.metric("process_start_time_seconds") - time.time()) < patience(60)
    resident = s.metric("process_resident_memory_bytes")
    assert 0.5 < resident / s.memory() < 2
    assert s.metric("process_virtual_memory_bytes") > resident
    assert s.metric("process_cpu_seconds_total") > 0
    descriptors = len(os.listdir(f"/proc/{s.pid}/fd"))
    with s.connect() as c:
        assert c.ask("GET").status == 200
        assert 0 < s.metric("process_open_fds") - descriptors <= 3
    assert s.metric("process_max_fds") >= 1024


def test_promtool(shared):
    """Prometheus' own opinion. Nuclio's names break its rules for names, and stay."""
    tool = subprocess.run([str(ROOT / "tests/support/promtool.sh")], capture_output=True, text=True,
                          check=False)
    if tool.returncode != 0:
        pytest.skip(f"no promtool: {tool.stderr.strip()[-200:]}")
    s = shared("echo_blocking")
    text = s.ask(s.scrape, "/metrics").body
    check = subprocess.run([tool.stdout.strip(), "check", "metrics"], input=text,
                           capture_output=True, timeout=patience(60), check=False)
    assert check.returncode in (0, 3), check.stderr.decode()  # 3: only remarks
    remarks = check.stderr.decode().splitlines()
    assert [r for r in remarks if not r.startswith("nuclio_")] == []
