"""disableDefaultHTTPTrigger without an http trigger: a server in its place that answers the health
path alone."""

import json
import shutil
import subprocess
import sys

import pytest
from http_raw import Connection
from stator_proc import BINARY, handler_path, patience

SAYS = "answers the health path alone"

# In namespaces of its own (mounts, network): argv is a function.yaml, "taken" or "free", and the
# program. Prints its exit status, or what the health path said.
CONTAINER = """
import fcntl, os, shutil, socket, struct, subprocess, sys, time, urllib.request
config, port, program = sys.argv[1:]
s = socket.socket()
fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))    # SIOCSIFFLAGS: IFF_UP
folder = "/etc/nuclio/config/processor"
with open(config, encoding="utf-8") as f:
    text = f.read()
subprocess.run(["mount", "-t", "tmpfs", "none", "/etc"], check=True)
os.makedirs(folder)
with open(folder + "/processor.yaml", "w", encoding="utf-8") as f:
    f.write(text)
if port == "taken":
    s.bind(("127.0.0.1", 8080))
    s.listen()
with subprocess.Popen([program, "run"], stdout=subprocess.DEVNULL) as p:
    if port == "taken":
        print(p.wait())
    else:
        for _ in range(3000):
            try:
                print(urllib.request.urlopen("http://127.0.0.1:8080/__internal/health").status)
                break
            except OSError:
                time.sleep(0.01)
        p.terminate()
        print(p.wait())
"""


def cron_only(**spec):
    """A function with one trigger, which is not http."""
    return {"runtime": "native", "handler": handler_path("cron_record"),
            "stator": {"loops": 2},
            "triggers": {"tick": {"kind": "cron", "attributes": {"interval": "1h"}}}} | spec


def spec_without_http(disable):
    return cron_only() | ({} if disable is None else {"disableDefaultHTTPTrigger": disable})


def port_of(s):
    return ("127.0.0.1", s.wait_log(SAYS)["port"])


def test_answers_the_health_path_alone(start):
    s = start("cron_record", spec=spec_without_http(True))
    with Connection(port_of(s), patience(10)) as c:
        for method in ("GET", "HEAD", "POST", "DELETE"):
            for target in ("/__internal/health", "/__internal/healthz?x=y"):
                answer = c.ask(method, target)
                assert (answer.status, answer.body) == (200, b"")
        for target in ("/", "/__internal", "/ready", "/metrics"):
            assert c.ask("GET", target).status == 404


def test_platform_decides_where_the_function_does_not(start):
    s = start("cron_record", spec=spec_without_http(None),
              platform={"disableDefaultHTTPTrigger": True})
    assert s.wait_log(SAYS)
    s = start("cron_record", spec=spec_without_http(False),
              platform={"disableDefaultHTTPTrigger": True})
    s.wait_log("Ready")
    assert not s.log(SAYS)


def test_not_beside_an_http_trigger(start):
    s = start("hello", spec={"disableDefaultHTTPTrigger": True})
    s.wait_log("Ready")
    assert not s.log(SAYS)
    assert s.get().status == 200


def test_two_run_side_by_side(start):
    """Outside of a container the port moves, and the log has it."""
    first = start("cron_record", spec=spec_without_http(True))
    second = start("cron_record", spec=spec_without_http(True))
    assert port_of(first) != port_of(second)
    for s in (first, second):
        with Connection(port_of(s), patience(10)) as c:
            assert c.ask("GET", "/__internal/health").status == 200


def can_unshare():
    """Whether this machine lets us have namespaces."""
    return shutil.which("unshare") is not None and subprocess.run(
        ["unshare", "-rmn", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="no namespaces here")
@pytest.mark.parametrize("port, says", [("free", ["200", "0"]), ("taken", ["1"])])
def test_container(tmp_path, port, says):
    """With Nuclio's paths it is :8080 or nothing."""
    file = tmp_path / "processor.yaml"
    file.write_text(json.dumps({"spec": cron_only(disableDefaultHTTPTrigger=True)}),
                    encoding="utf-8")
    done = subprocess.run(["unshare", "-rmn", sys.executable, "-c", CONTAINER, str(file), port,
                           str(BINARY)], capture_output=True, text=True, check=False,
                          timeout=patience(60))
    assert done.stdout.split() == says, done.stderr
    if port == "taken":
        assert len(done.stderr.splitlines()) == 1
        assert 'listen on ":8080"' in done.stderr
