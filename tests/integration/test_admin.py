"""The administration listener: triggers, status, log levels."""

import json
import socket

import pytest
from http_raw import Connection, build_request
from stator_proc import patience


@pytest.fixture(name="admin")
def admin_fixture(start, tmp_path_factory):
    """admin(handler, ...): a processor whose `web` is the address of its administration."""
    def begin(handler, **options):
        address = str(tmp_path_factory.mktemp("web") / "a")
        options["platform"] = {"webAdmin": {"enabled": True, "listenAddress": f"unix:{address}"}}
        s = start(handler, **options)
        s.web = address
        return s
    return begin


def ask(s, target, method="GET", body=None):
    """Status and JSON, None without a body."""
    with Connection(s.web, patience(15)) as c:
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        c.send(build_request(method, target, data, [("Connection", "close")]))
        answer = c.read_response(method == "HEAD")
    if answer.body:
        assert answer.header("Content-Type") == "application/json"
    return answer.status, json.loads(answer.body) if answer.body else None


# Triggers

def test_triggers(admin):
    """The keys of the configuration, defaults filled in."""
    s = admin("hello", workers=2, attributes={"maxRequestBodySize": "1Ki", "headerTimeout": "90s"})
    status, found = ask(s, "/triggers")
    assert (status, list(found)) == (200, ["http"])
    http = found["http"]
    assert (http["kind"], http["name"], http["class"]) == ("http", "http", "sync")
    assert (http["numWorkers"], http["url"]) == (2, "127.0.0.1:0")
    assert http["workerAvailabilityTimeoutMilliseconds"] == 10000
    assert http["workerTerminationTimeout"] == "10s"
    attributes = http["attributes"]
    assert (attributes["maxRequestBodySize"], attributes["readBufferSize"]) == (1024, 16384)
    assert (attributes["headerTimeout"], attributes["idleTimeout"]) == ("1m30s", "1m15s")
    assert attributes["mode"] == "sync"
    assert ask(s, "/triggers/") == (200, found)
    assert ask(s, "/triggers/http") == (200, http | {"id": "http"})


def test_stats_of_a_trigger(admin):
    s = admin("outcome", workers=1)
    for body in (b"empty", b"empty", b"fail"):
        s.post(body)
    s.wait_metric(3, "nuclio_processor_handled_events_total")
    status, found = ask(s, "/triggers/http/stats")
    assert (status, found["id"]) == (200, "http")
    stats = found["stats"]
    assert stats["success"] + stats["failure"] == 3
    assert stats["duration"]["count"] == 3 and stats["duration"]["seconds"] > 0
    assert stats["inFlight"] == stats["lateResults"] == 0
    assert stats["rejected"] == {"no_worker": 0, "body_memory": 0}


@pytest.mark.parametrize("target", ["/", "/x", "/triggers/x", "/triggers/x/stats", "/trigger",
                                    "/triggers/http/x", "/triggers/http/stats/x", "/metrics",
                                    "/ready", "/logger"])
def test_unknown_path_is_an_empty_404(admin, target):
    assert ask(admin("hello"), target) == (404, None)


@pytest.mark.parametrize("target", ["/triggers", "/triggers/http", "/status", "/triggers/http/stats",
                                    "/logger/level"])
def test_other_methods_are_405(admin, target):
    s = admin("hello")
    for method in ("POST", "DELETE", "HEAD", "PATCH"):
        assert ask(s, target, method, b"{}" if method == "POST" else None) == (405, None)
    if target != "/logger/level":
        assert ask(s, target, "PUT", {}) == (405, None)


def test_name_with_a_slash(admin):
    """It is one name, also where it ends like the path of the statistics."""
    s = admin("hello", trigger={"name": "a/stats"})
    assert ask(s, "/triggers/a/stats")[1]["name"] == "a/stats"
    assert ask(s, "/triggers/a%2Fstats")[1]["id"] == "a/stats"
    assert "success" in ask(s, "/triggers/a/stats/stats")[1]["stats"]


# Status

def test_status_of_an_idle_processor(admin):
    s = admin("echo_blocking", workers=3)
    with s.connect() as c:
        c.ask("GET")
        status, found = ask(s, "/status")
    assert status == 200
    assert (found["function"], found["runtime"], found["phase"]) == ("test", "native", "ready")
    assert (found["ready"], found["degraded"], found["reasons"]) == (True, False, [])
    assert found["version"] and found["uptimeSeconds"] > 0
    (pool,) = found["pools"]
    assert (pool["name"], pool["triggers"], pool["numWorkers"]) == ("http", ["http"], 3)
    assert pool["states"]["idle"] == 3 and sum(pool["states"].values()) == 3
    assert [(w["index"], w["state"], w["running"]) for w in pool["workers"]] == [
        (i, "idle", 0) for i in range(3)]
    assert (pool["queue"]["events"], pool["queue"]["maxEvents"]) == (0, 8192)
    assert [loop["index"] for loop in found["loops"]] == [0, 1]
    assert sum(loop["connections"] for loop in found["loops"]) == 1
    assert len(found["slots"]) == 3
    assert found["bodyMemory"]["used"] == 0 < found["bodyMemory"]["limit"]


def test_status_names_what_is_wrong(admin):
    """A worker past eventTimeout is stuck: still ready, but degraded."""
    s = admin("sleep", workers=2, spec={"eventTimeout": "100ms"})
    assert s.post(b"60000").status == 408
    found = ask(s, "/status")[1]
    assert (found["ready"], found["degraded"]) == (True, True)
    assert found["pools"][0]["stuck"] == 1
    assert found["reasons"] == ["Pool http: workers stuck past eventTimeout: 1"]
    s.kill()


def test_status_shows_a_drain(admin):
    s = admin("hello", own={"drainDelay": "3s"})
    s.signal()
    s.wait_log("Draining")
    found = ask(s, "/status")[1]
    assert (found["phase"], found["ready"], found["degraded"]) == ("draining", False, True)
    assert found["reasons"] == ["Processor is draining"]


# Log levels

def test_log_level(admin):
    s = admin("hello")
    assert ask(s, "/logger/level") == (200, {"system": "debug", "functions": "debug"})
    changed = {"system": "error", "functions": "info"}
    assert ask(s, "/logger/level", "PUT", changed) == (200, changed)
    assert ask(s, "/logger/level", "PUT", {"functions": "off"}) == (
        200, {"system": "error", "functions": "off"})
    assert ask(s, "/logger/level")[1] == {"system": "error", "functions": "off"}
    s.signal()
    s.wait()
    assert s.log("Draining") == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"warn"', b"{}", b'{"system": "loud"}',
                                  b'{"system": 1}', b'{"level": "warn"}', b"\xff",
                                  b'{"system": "warn", "function": "warn"}', b'{"system": null}'])
def test_bad_log_level_changes_nothing(admin, body):
    s = admin("hello")
    status, found = ask(s, "/logger/level", "PUT", body)
    assert status == 400 and found["error"].startswith("found ")
    assert ask(s, "/logger/level")[1] == {"system": "debug", "functions": "debug"}


# Listening

def test_taken_port_is_fatal(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        s = start("hello", platform={"webAdmin": {"listenAddress": address}}, ready=False)
        assert s.wait() == 1
    assert address in s.stderr()


def test_off(start, tmp_path):
    path = tmp_path / "a"
    s = start("hello", platform={"webAdmin": {"enabled": False, "listenAddress": f"unix:{path}"}})
    assert s.ready() == 200
    assert not path.exists()
