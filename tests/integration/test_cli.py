"""The command line: what is printed, what is refused, and with which status."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("STATOR_BUILD", ROOT / "build"))
STATOR = os.environ.get("STATOR", str(BUILD / "stator"))
HELLO = BUILD / "examples" / "hello-c" / "hello.so"
GIVE_UP = 60    # seconds


def stator(*args, cwd=None, env=None):
    """A run of the program to its end."""
    return subprocess.run([STATOR, *args], capture_output=True, text=True, timeout=GIVE_UP,
                          cwd=cwd, env={**os.environ, **(env or {})}, check=False)


# ---- help, version, slots ----

@pytest.mark.parametrize("args", [["--help"], ["-h"], ["help"]])
def test_help(args):
    """Every command is named."""
    done = stator(*args)
    assert done.returncode == 0 and done.stderr == ""
    for command in ("run", "check", "schema", "slots", "version"):
        assert re.search(rf"^  {command}\b", done.stdout, re.M)


@pytest.mark.parametrize("command, options", [
    ("run", ["--config", "--platform-config", "--port", "--loops", "--workers", "--strict"]),
    ("check", ["--strict"]),
    ("schema", ["function|platform"]),
    ("slots", ["--config", "--json"]),
    ("version", []),
])
def test_help_of_command(command, options):
    """A command's help has its options, and does nothing else."""
    done = stator(command, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert f"Usage: stator {command}" in done.stdout
    for option in options:
        assert option in done.stdout


@pytest.mark.parametrize("args", [["version"], ["--version"]])
def test_version(args):
    """Version, commit, build and ABI, one a line."""
    done = stator(*args)
    assert done.returncode == 0 and done.stderr == ""
    assert re.fullmatch(r"stator \d+\.\d+\.\d+\ncommit \S+\nbuild \S+\nabi \d+\.\d+\n",
                        done.stdout)


def test_slots_json():
    """The CPUs are those of the process, and every slot lies in them."""
    done = stator("slots", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    topology = found["topology"]
    assert topology["cpuCount"] == len(os.sched_getaffinity(0))
    assert topology["memoryLimit"] > 0 and topology["numaNodes"] >= 1
    assert 1 <= topology["loops"] <= 64
    assert len(found["slots"]) == topology["loops"]
    assert [slot["name"] for slot in found["slots"]] == [
        f"cpu{i}" for i in range(topology["loops"])]


def test_slots_of_a_function(tmp_path):
    """As many slots as workers, and no pinning where it is switched off."""
    file = tmp_path / "function.yaml"
    file.write_text("spec: {runtime: native, stator: {pin: never}, triggers: "
                    "{web: {kind: http, numWorkers: 5}}}\n")
    done = stator("slots", "--json", "--config", str(file))
    assert done.returncode == 0, done.stderr
    slots = json.loads(done.stdout)["slots"]
    assert len(slots) == 5 and not any(slot["pinned"] for slot in slots)


def test_slots_one_cpu():
    """The affinity of the process counts."""
    cpu = min(os.sched_getaffinity(0))
    done = subprocess.run([STATOR, "slots"], capture_output=True, text=True, timeout=GIVE_UP,
                          check=True, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    assert f"CPUs {cpu} (1)\n" in done.stdout
    assert "I/O loops 1\n" in done.stdout
    assert f"slot cpu0: CPUs {cpu}" in done.stdout


# ---- wrong usage ----

@pytest.mark.parametrize("args, says", [
    ([], "a command is missing"),
    (["rnu"], 'there is no command "rnu", did you mean "run"'),
    (["frobnicate"], 'there is no command "frobnicate"'),
    (["run", "--prot", "1"], "there is no option --prot, did you mean --port"),
    (["run", "--frobnicate"], "there is no option --frobnicate"),
    (["run", "-x"], "there is no option -x"),
    (["run", "--port"], "--port needs a value"),
    (["run", "--port", "http"], '--port needs a number from 1 to 65535, found "http"'),
    (["run", "--port", "0"], "--port needs a number from 1 to 65535"),
    (["run", "--port", "65536"], "--port needs a number from 1 to 65535"),
    (["run", "--port=-1"], "--port needs a number"),
    (["run", "--port", "99999999999999999999"], "--port needs a number"),
    (["run", "--loops", "65"], "--loops needs a number from 1 to 64"),
    (["run", "--workers", "1.5"], '--workers needs a number from 1 to 100000, found "1.5"'),
    (["run", "a", "b"], 'run takes one argument, found "a" and "b"'),
    (["slots", "here"], 'slots takes no argument, found "here"'),
    (["slots", "--json=yes"], "--json takes no value"),
    (["version", "--port", "1"], "there is no option --port"),
    (["check"], "check needs a file"),
    (["schema"], "schema needs the name of a file"),
    (["schema", "funktion"], 'schema takes function or platform, found "funktion"'),
    (["check", "--strict"], "check needs a file"),
    (["check", "--stritc", "f.yaml"], "there is no option --stritc, did you mean --strict"),
])
def test_wrong_usage(args, says):
    """Exit 2, and one line on stderr that says what is wrong and what to type."""
    done = stator(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("stator: ") and done.stderr.count("\n") == 1
    assert says in done.stderr
    assert "; type: stator " in done.stderr


# ---- refused configurations ----

def test_faults_of_a_file(tmp_path):
    """All of them at once, each with its place; nothing starts."""
    (tmp_path / "function.yaml").write_text(
        "spec:\n"
        "  runtime: native\n"
        "  eventTimeout: 5\n"
        "  triggers:\n"
        "    web: {kind: http, numWorkers: -1}\n"
        "    often: {kind: nats}\n")
    done = stator("run", ".", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == ("./function.yaml:3:17: spec.eventTimeout: found the number 5, expected a "
                        'duration of at least 1ns, for example "5s"')
    assert lines[1].startswith("./function.yaml:5:35: spec.triggers.web.numWorkers: found the "
                               "number -1, expected a whole number from 0 to 100000")
    assert lines[2].startswith('./function.yaml:6:19: spec.triggers.often.kind: found "nats", '
                               "which is not supported by this build yet")
    assert len(lines) == 3


@pytest.mark.parametrize("text, says", [
    ("spec: [\n", "f.yaml:2:1: not valid YAML: "),
    ("a: 1\na: 2\n", 'f.yaml:2:1: found the key "a" a second time'),
    ("", "f.yaml: found an empty file"),
    ("spec: {runtime: nodejs}\n", "which is not supported by this build yet"),
])
def test_first_fault(tmp_path, text, says):
    """A file that can't be parsed, or means nothing here."""
    (tmp_path / "f.yaml").write_text(text)
    for args in (["run", "f.yaml"], ["run", "--config", "f.yaml"], ["slots", "--config", "f.yaml"]):
        done = stator(*args, cwd=tmp_path)
        assert done.returncode == 1 and done.stdout == ""
        assert says in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("args", [["nowhere"], ["nowhere.so"], ["nowhere.yaml"],
                                  ["--config", "nowhere.yaml"]])
def test_no_such_file(tmp_path, args):
    """One line that names the file."""
    done = stator("run", *args, cwd=tmp_path)
    assert done.returncode == 1
    assert args[-1] in done.stderr and "No such file or directory" in done.stderr
    assert done.stderr.count("\n") == 1


def test_missing_handler(tmp_path):
    """A good configuration whose handler isn't there."""
    (tmp_path / "function.yaml").write_text("spec: {runtime: native, handler: gone.so}\n")
    done = stator("run", str(tmp_path))
    assert done.returncode == 1
    assert "gone.so" in done.stdout + done.stderr


# ---- check ----

GOOD = "spec: {runtime: native, handler: hello.so}\n"
UNKNOWN = "spec: {runtime: native, handlr: hello.so}\n"
PLATFORM = "logger: {system: [{level: info, sink: stdout}]}\n"


def test_check(tmp_path):
    """A function's file, its folder, a platform's; what was fine is named."""
    (tmp_path / "function.yaml").write_text(GOOD)
    (tmp_path / "platform.yaml").write_text(PLATFORM)
    done = stator("check", "function.yaml", ".", "platform.yaml", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == "function.yaml: ok\n.: ok\nplatform.yaml: ok\n"


def test_check_faults(tmp_path):
    """Every file is looked at; a platform's keys are known by themselves."""
    (tmp_path / "a.yaml").write_text("spec: {runtime: native, eventTimeout: 5, version: x}\n")
    (tmp_path / "b.yaml").write_text(GOOD)
    (tmp_path / "c.yaml").write_text("webAdmin: {enabled: 5}\n")
    done = stator("check", "a.yaml", "b.yaml", "c.yaml", "gone.yaml", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == "b.yaml: ok\n"
    places = [line.split(" ")[0] for line in done.stderr.splitlines()]
    assert places == ["a.yaml:1:39:", "a.yaml:1:51:", "c.yaml:1:21:", "gone.yaml:"]


@pytest.mark.parametrize("text, place", [
    (UNKNOWN, '1:25: spec.handlr: unknown key, did you mean "handler"?'),
    ("spec: {runtime: native, zzzzzzz: 1}\n", "1:25: spec.zzzzzzz: unknown key"),
    ("webAdmin: {enabld: yes}\n", '1:12: webAdmin.enabld: unknown key, did you mean "enabled"?'),
])
def test_strict(tmp_path, text, place):
    """An unknown key is a warning, and a fault under --strict."""
    (tmp_path / "f.yaml").write_text(text)
    done = stator("check", "f.yaml", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr.startswith("f.yaml:" + place.split(" ", 1)[0])
    assert " warning: " in done.stderr
    done = stator("check", "--strict", "f.yaml", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"f.yaml:{place}\n"


def test_run_strict(tmp_path):
    """The same for `run`: nothing starts."""
    (tmp_path / "function.yaml").write_text(UNKNOWN)
    done = stator("run", "--strict", ".", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert "unknown key" in done.stderr


# ---- running ----

def free_port():
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def running(*args, cwd=None, env=None):
    """A processor on a free port, until its end by SIGTERM; gives the port."""
    port = free_port()
    with subprocess.Popen([STATOR, "run", *args, "--port", str(port)], cwd=cwd,
                          env={**os.environ, **(env or {})}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as process:
        try:
            end = time.monotonic() + GIVE_UP
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                assert process.poll() is None, process.stdout.read()
                assert time.monotonic() < end
                time.sleep(0.01)
            yield port
            process.send_signal(signal.SIGTERM)
            assert process.wait(GIVE_UP) == 0, process.stdout.read()
        finally:
            process.kill()


def get(port):
    """Body of a GET."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=GIVE_UP) as reply:
        return reply.read()


needs_hello = pytest.mark.skipif(not HELLO.exists(), reason="the examples are not built")


@needs_hello
def test_run_handler_file(tmp_path):
    """Zero configuration."""
    shutil.copy(HELLO, tmp_path)
    with running("hello.so", "--loops", "1", "--workers", "1", cwd=tmp_path) as port:
        assert get(port) == b"Hello, world!\n"


@needs_hello
@pytest.mark.parametrize("by", ["directory", "file", "config"])
def test_run_configured(tmp_path, by):
    """The handler lies beside function.yaml, or in the working directory."""
    shutil.copy(HELLO, tmp_path)
    (tmp_path / "function.yaml").write_text(
        "spec:\n  runtime: native\n  handler: hello.so\n  stator: {loops: '${LOOPS}'}\n")
    env = {"LOOPS": "1"}
    if by == "directory":
        args, cwd = [str(tmp_path)], None
    else:
        args, cwd = (["function.yaml"] if by == "file" else ["--config", "function.yaml"]), tmp_path
    with running(*args, cwd=cwd, env=env) as port:
        assert get(port) == b"Hello, world!\n"


@needs_hello
def test_run_plugin_path(tmp_path):
    """The folder of the file that Nuclio's variable names."""
    code, config = tmp_path / "code", tmp_path / "f.yaml"
    code.mkdir()
    shutil.copy(HELLO, code)
    config.write_text("spec: {runtime: native, handler: hello.so}\n")
    env = {"NUCLIO_GOLANG_HANDLER_PLUGIN_PATH": str(code / "hello.so")}
    with running("--config", str(config), "--loops", "1", cwd=tmp_path, env=env) as port:
        assert get(port) == b"Hello, world!\n"


@needs_hello
@pytest.mark.skipif(BUILD.resolve() != ROOT / "build", reason="the example names build/")
def test_example():
    """What `make run` does."""
    with running("docs/examples/hello-c", cwd=ROOT) as port:
        assert get(port) == b"Hello, world!\n"
