"""/live, /ready and /metrics: what probes and scrapers see."""

import json
import os
import re
import time

import pytest
from http_raw import Connection, build_request
from stator_proc import patience, wait_until

HANDLED = "nuclio_processor_handled_events_total"
ALLOCATIONS = "nuclio_processor_worker_allocation_total"


# Health

def test_health_answers(start):
    s = start("hello")
    for target in ("/live", "/ready", "/ready?full=0", "/live?x"):
        answer = s.ask(s.health, target)
        assert (answer.status, answer.body) == (200, b"{}")
        assert answer.header("Content-Type") == "application/json; charset=utf-8"
        assert answer.header("Server") == "stator"


@pytest.mark.parametrize("query, named", [
    ("full=1", True), ("x=y&full=1", True), ("full=1&x", True),
    ("full=0", False), ("full=12", False), ("xfull=1", False), ("", False), ("&", False)])
def test_full_answers_name_what_is_right(shared, query, named):
    s = shared("hello")
    live, ready = (json.loads(s.ask(s.health, f"{path}?{query}").body)
                   for path in ("/live", "/ready"))
    both = {"processor_liveness": "OK", "processor_readiness": "OK"}
    assert ready == (both if named else {})
    assert live == ({"processor_liveness": "OK"} if named else {})


@pytest.mark.parametrize("target", ["/", "/healthz", "/live/", "/Ready", "/metrics", "/livex"])
def test_other_paths_are_404(shared, target):
    s = shared("hello")
    answer = s.ask(s.health, target)
    assert (answer.status, answer.body) == (404, b"")


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_405(shared, method):
    s = shared("hello")
    for address, target in ((s.health, "/live"), (s.health, "/ready"), (s.scrape, "/metrics")):
        answer = s.ask(address, target, method)
        assert (answer.status, answer.body) == (405, b"")


def test_metrics_has_its_own_paths(shared):
    s = shared("hello")
    for target in ("/", "/ready", "/metric", "/metrics/"):
        assert s.ask(s.scrape, target).status == 404


def test_probes_may_keep_their_connection(shared):
    s = shared("hello")
    with Connection(s.health, patience(10)) as c:
        for _ in range(20):
            assert c.ask("GET", "/ready").status == 200
            assert c.ask("GET", "/live").status == 200
        c.send(build_request("GET", "/live") + build_request("GET", "/ready"))
        assert c.read_response().status == c.read_response().status == 200


def test_probe_that_leaves_before_its_answer(start):
    """/live waits for the loops: its client may be gone by then."""
    s = start("hang_inline", own={"loops": 1})
    with s.connect() as busy:
        busy.send(build_request("POST", "/", b"hang 600"))
        time.sleep(patience(0.1))
        for reset in (True, False):
            c = Connection(s.health, patience(10))
            c.send(build_request("GET", "/live"))
            time.sleep(0.02)
            (c.reset if reset else c.close)()
        assert s.live() == 200  # the loop gives a sign within the two seconds
        assert busy.read_response().body == b"late"
    assert s.live() == 200


def test_many_probes_wait_for_one_sign(start):
    s = start("hang_inline", own={"loops": 2})
    with s.connect() as busy:
        busy.send(build_request("POST", "/", b"hang 400"))
        time.sleep(0.05)
        probes = [Connection(s.health, patience(10)) for _ in range(10)]
        for c in probes:
            c.send(build_request("GET", "/live"))
        for c in probes:
            assert c.read_response().status == 200
            c.close()
        assert busy.read_response().status == 200


def test_admin_over_tcp(start):
    """As in a container; IPv4 and IPv6."""
    s = start("hello", platform={"healthCheck": {"listenAddress": ":0"}}, ready=False)
    s.wait_log("Ready")
    ports = listening_ports(s.pid)
    ports.remove(s.port)
    assert len(ports) == 1
    for host in ("127.0.0.1", "::1"):
        with Connection((host, ports[0]), patience(10)) as c:
            assert c.ask("GET", "/ready").status == 200


def listening_ports(pid: int) -> list[int]:
    """TCP ports on which the process listens."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            continue
        if match:
            inodes.add(match[1])
    ports = set()
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{pid}/net/{table}", encoding="ascii") as f:
            for line in f.readlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in inodes:
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    return sorted(ports)


# Metrics

def test_metrics_are_prometheus_text(start):
    """metrics() parses strictly; here what it does not see."""
    s = start("outcome", workers=2)
    s.post(b"empty")
    answer = s.ask(s.scrape, "/metrics")
    assert answer.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    samples = s.metrics()
    for name, kind in samples.types.items():
        assert re.fullmatch(r"(nuclio_processor|stator|process)_[a-z_]+", name)
        assert samples.helps[name]
        assert (kind == "counter") == name.endswith("_total") or name.startswith("nuclio_")
    assert samples.types["stator_event_duration_seconds"] == "histogram"


def test_no_family_is_missing(start):
    names = set(start("hello").metrics().types)
    assert names >= {
        HANDLED, "nuclio_processor_handled_events_duration_milliseconds_sum",
        "nuclio_processor_handled_events_duration_milliseconds_count",
        "nuclio_processor_worker_allocation_count", ALLOCATIONS,
        "nuclio_processor_worker_allocation_wait_duration_milliseconds_sum",
        "nuclio_processor_worker_allocation_workers_available_percentage",
        "stator_events_in_flight", "stator_event_duration_seconds", "stator_queue_events",
        "stator_queue_wait_seconds", "stator_workers", "stator_worker_restarts_total",
        "stator_connections", "stator_rejected_total", "stator_late_results_total",
        "stator_client_gone_total", "stator_bytes_total", "stator_body_memory_bytes",
        "stator_logs_dropped_total", "stator_slot_info", "stator_ready_seconds",
        "stator_build_info"}


def test_labels_are_nuclios(start):
    """instance, namespace, function, project, trigger_kind, trigger_id; then what they count."""
    s = start("hello", trigger={"name": "front door"})
    metadata = {"name": "greet", "namespace": "shop", "labels": {"nuclio.io/project-name": "web"}}
    rename(s, metadata)
    again = start("hello", args=["--config", str(s.dir / "test-function.yaml")])
    again.get()
    again.wait_metric(1, HANDLED)
    labels = {"instance": "shop-greet", "namespace": "shop", "function": "greet",
              "project": "web", "trigger_kind": "http", "trigger_id": "front door"}
    samples = again.metrics()
    for name in samples.types:
        if not name.startswith("nuclio_"):
            continue
        for series in samples.find(name):
            own = dict(series.labels)
            more = set(own) - set(labels)
            assert {k: own[k] for k in labels} == labels
            assert more <= {"result", "worker_index"}
    assert samples.sum(HANDLED, result="success") == 1
    for series in samples.find("stator_events_in_flight"):
        assert dict(series.labels) == {"function": "greet", "trigger_id": "front door"}


def rename(s, metadata) -> None:
    """Other metadata in the configuration that was written for s."""
    path = s.dir / "test-function.yaml"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"metadata": metadata}), encoding="utf-8")


def test_instance_from_the_environment(start):
    s = start("hello", env={"NUCLIO_FUNCTION_INSTANCE": "pod-7"})
    assert s.metric(HANDLED, instance="pod-7") == 0


def test_label_values_are_escaped(start):
    """The strict parser gives back what was configured."""
    name = 'a"b\\c\nd'
    s = start("hello", trigger={"name": name})
    s.get()
    s.wait_metric(1, HANDLED, trigger_id=name, result="success")


@pytest.mark.parametrize("handler", ["outcome", "sleep"])
def test_counters_match_the_requests(start, handler):
    s = start(handler, workers=2)
    with s.connect() as c:
        for _ in range(7):
            assert c.ask("POST", "/", b"empty").status == 200
        c.send(build_request("POST", "/", b"empty") * 13)
        for _ in range(13):
            c.read_response()
    failures = 0
    if handler == "outcome":
        failures = 5
        for _ in range(failures):
            assert s.post(b"reject").status == 400
    total = 20 + failures
    s.wait_metric(total, HANDLED)  # events that ran on a loop are counted at the end of its pass
    m = s.metrics()
    assert m.sum(HANDLED, result="success") == 20
    assert m.sum(HANDLED, result="failure") == failures
    assert m.sum("nuclio_processor_worker_allocation_count") == total
    assert m.sum(ALLOCATIONS) == total
    assert m.sum(ALLOCATIONS, result="error_timeout") == 0
    assert m.sum("nuclio_processor_handled_events_duration_milliseconds_count") == total
    assert m.sum("stator_event_duration_seconds_count") == total
    assert m.sum("stator_event_duration_seconds_sum") > 0
    assert 0 < m.sum("nuclio_processor_worker_allocation_workers_available_percentage") <= (
        100 * total)
    assert m.sum("stator_events_in_flight") == 0
    assert m.sum("stator_rejected_total") == 0


def test_durations_are_those_of_the_handler(start):
    s = start("sleep", workers=1)
    for _ in range(2):
        s.post(b"150")
    m = s.metrics()
    spent = m.sum("nuclio_processor_handled_events_duration_milliseconds_sum")
    assert 300 <= spent < 300 + patience(300)
    assert 0.3 <= m.sum("stator_event_duration_seconds_sum") < 0.3 + patience(0.3)


def test_bytes_and_connections(start):
    s = start("echo")
    request = build_request("POST", "/", b"x" * 1000)
    with s.connect() as c:
        c.send(request)
        raw = c.read_response().raw
        s.wait_metric(1, "stator_connections")
        assert s.metric("stator_bytes_total", direction="in") == len(request)
        assert s.metric("stator_bytes_total", direction="out") == len(raw)
    s.wait_metric(0, "stator_connections")


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_by_state(start, workers):
    s = start("sleep", workers=workers)
    assert s.metric("stator_workers", state="idle") == workers
    assert s.metric("stator_workers") == workers
    with s.connect() as c:
        c.send(build_request("POST", "/", b"400"))
        wait_until(lambda: s.metric("stator_workers", state="idle") == workers - 1)
        c.read_response()
    s.wait_metric(workers, "stator_workers", state="idle")


@pytest.mark.parametrize("reason, send", [
    ("bad_request", b"GET / HTTP/1.1\r\n\r\n"),
    ("bad_request", b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("too_large", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"),
    ("too_large", b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("request_timeout", b"GET / HTTP/1.1\r\nHos"),
])
def test_refused_requests_by_reason(start, reason, send):
    """They reach no handler and are no events."""
    s = start("hello", attributes={"maxRequestBodySize": 4000, "readBufferSize": 2000,
                                   "headerTimeout": "100ms"})
    with s.connect() as c:
        c.send(send)
        assert c.read_response().status >= 400
    assert s.metric(HANDLED) == 0
    found = {dict(k.labels)["reason"]: v for k, v in s.metrics().find(
        "stator_rejected_total").items() if v}
    assert sum(found.values()) == 1 and list(found.values()) == [1], found
    assert reason in found


def test_info_metrics(start):
    s = start("hello", own={"loops": 2})
    m = s.metrics()
    build = m.find("stator_build_info")
    assert list(build.values()) == [1]
    assert dict(next(iter(build)).labels)["version"]
    assert len(m.find("stator_slot_info")) == 2
    assert 0 < m.sum("stator_ready_seconds") < patience(10)


def test_scrapes_do_not_count_as_requests(start):
    s = start("hello")
    for _ in range(5):
        s.metrics()
        s.ready()
    assert s.metric(HANDLED) == 0
    assert s.metric("stator_bytes_total") >= 0


def test_scrape_under_load(start):
    """Every scrape is consistent enough to parse, and counters never shrink."""
    s = start("echo_blocking", workers=2)
    last = 0.0
    with s.connect() as c:
        for i in range(30):
            c.send(build_request("POST", "/", b"%d" % i) * 20)
            now = s.metric(HANDLED, result="success")
            assert now >= last
            last = now
            for _ in range(20):
                c.read_response()
    s.wait_metric(600, HANDLED, result="success")
