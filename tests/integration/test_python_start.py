"""How a Python function starts: what can't be loaded is one clear error, and nothing is left half
started. Then what a worker has: its environment, its user, its CPUs."""

import json
import os
import pwd
import subprocess
import tempfile
from pathlib import Path

import pytest
from stator_proc import STRAYS, Stator, patience, python_options, run_cli, wait_until

# (what, code, pieces of the one error)
BROKEN = [
    ("missing module", "import os\nimport sklearn_not_there.tree\n",
     ["handler.py:2", "sklearn_not_there", "pip install sklearn_not_there"]),
    ("known package", "import os\nimport cv2\n",
     ["handler.py:2", "pip install opencv-python"]),
    ("syntax error", "def handler(context, event):\n    return (1\n",
     ["handler.py:2", "SyntaxError", "'(' was never closed"]),
    ("no function", "def other(context, event):\n    pass\n",
     ["handler.py", '"handler"']),
    ("no callable", "handler = 5\n", ["handler.py", "is an int, not a function"]),
    ("raises", "import json\n\ndef load():\n    raise RuntimeError('no database')\n\nload()\n",
     ["handler.py:4", "RuntimeError: no database"]),
    ("exits", "import sys\nsys.exit(5)\n", ["handler.py:2", "exit status 5"]),
    ("init_context", "def init_context(context):\n    open('/not/there')\n\n"
     "def handler(context, event):\n    pass\n",
     ["handler.py:2", "init_context", "FileNotFoundError"]),
]


@pytest.mark.parametrize("code, pieces", [case[1:] for case in BROKEN],
                         ids=[case[0] for case in BROKEN])
def test_what_can_not_be_loaded(python, code, pieces):
    """Four workers fail at once: one error, status 1, no worker stays, no port was opened."""
    s = python(code, workers=4, ready=False, env=STRAYS)
    assert s.wait() == 1
    text = s.stderr()
    assert len([line for line in text.splitlines() if line.startswith("stator: ")]) == 1, text
    for piece in pieces:
        assert piece in text, (piece, text)
    assert not s.log("Listening") and not s.log("Ready")
    wait_until(lambda: not workers_of(s.dir))


def workers_of(folder: Path) -> list[int]:
    """Worker processes whose working directory this is."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            if (os.readlink(proc / "cwd") == str(folder)
                    and b"stator._worker" in (proc / "cmdline").read_bytes()):
                found.append(int(proc.name))
        except OSError:
            pass
    return found


PLAIN = "def handler(context, event):\n    return 'x'\n"
PYTHON = "/usr/bin/python3"


@pytest.mark.parametrize("asked, warns", [
    ("2.7", True), ("3.1", True), ("3", False), ("running", False), ("", False)])
def test_another_version_than_asked_for(python, asked, warns):
    """One warning for all workers."""
    running = subprocess.run([PYTHON, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"],
                             capture_output=True, text=True, check=True).stdout.strip()
    s = python(PLAIN, workers=3, spec={
        "runtime": f"python:{running if asked == 'running' else asked}"})
    assert s.get().body == b"x"
    s.stop()
    records = s.log("names another version")
    assert len(records) == warns
    if warns:
        assert (records[0]["level"], records[0]["named"]) == ("warn", asked)
        assert records[0]["runs_on"] == f"python {running}"
        assert "spec.runtimeAttributes.python" in records[0]["remedy"]


def test_missing_add_on_is_told_once(python, worker, tmp_path):
    """And not to who asked for the worker without it."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['stator._native'] = None\n")
    s = python(PLAIN, workers=3)
    assert s.get().body == b"x"
    s.stop()
    records = s.log("The add-on stator._native is missing")
    assert [record["level"] for record in records] == ["warn"] * (worker == "native")


def test_a_worker_that_dies_before_it_is_ready(python):
    s = python("""
        import os, sys
        print("the driver is broken", file=sys.stderr, flush=True)
        os._exit(7)
        """, ready=False, env=STRAYS)
    assert s.wait() == 1
    assert "exited with status 7 before it was ready" in s.stderr()
    assert "the driver is broken" in s.stderr()


def test_no_such_interpreter(python):
    s = python("def handler(context, event): pass", ready=False, env=STRAYS, spec={
        "runtimeAttributes": {"python": "/not/there/python3"}})
    assert s.wait() == 1
    assert "/not/there/python3" in s.stderr() and "runtimeAttributes.python" in s.stderr()


def test_missing_file(tmp_path):
    done = run_cli("run", str(tmp_path / "gone.py"))
    assert done.returncode == 1 and "gone.py" in done.stderr


def test_zero_configuration(start, tmp_path):
    """stator run FILE.py, with its own port."""
    (tmp_path / "hello.py").write_text("def handler(context, event):\n    return 'hello'\n")
    (tmp_path / "bad.py").write_text("import not_there_at_all\n")
    done = run_cli("run", str(tmp_path / "bad.py"))
    assert done.returncode == 1 and "pip install not_there_at_all" in done.stderr
    s = start("", spec={"runtime": "python", "handler": "hello:handler"})
    assert s.get().body == b"hello"


def test_code_in_packages(start, tmp_path):
    """pkg.sub:function, and a module beside it."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    (tmp_path / "pkg" / "sub.py").write_text(
        "import beside\n\nasync def run(context, event):\n    return beside.TEXT\n")
    (tmp_path / "beside.py").write_text("TEXT = 'beside'\n")
    s = start("", spec={"runtime": "python", "handler": "pkg.sub:run"})
    assert s.get().body == b"beside"


def test_init_context_comes_before_readiness(python):
    """Plain or async, in each worker; what it keeps is there for events."""
    s = python("""
        import asyncio, time

        async def init_context(context):
            await asyncio.sleep(0.3)
            context.user_data.made = time.monotonic()

        def handler(context, event):
            return str(context.user_data.made)
        """, workers=2)
    assert float(s.get().body) > 0
    assert s.log("Ready")[0]["milliseconds"] >= 300


def test_sigterm_while_workers_start(python):
    s = python("import time\ntime.sleep(100)\ndef handler(context, event): pass", ready=False,
               workers=2)
    wait_until(lambda: len(workers_of(s.dir)) == 2)
    assert s.stop() < patience(2)
    wait_until(lambda: not workers_of(s.dir))


# The environment

ENVIRONMENT = """
    import json, os

    def handler(context, event):
        return {"env": dict(os.environ), "uid": os.getuid(), "gid": os.getgid(),
                "groups": os.getgroups(), "cwd": os.getcwd(),
                "cpus": sorted(os.sched_getaffinity(0)), "pgid": os.getpgid(0), "pid": os.getpid(),
                "sid": os.getsid(0),
                "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))}
"""


def test_environment_of_workers(python, tmp_path):
    """spec.env wins over all, chosen variables come along, the processor's secrets do not."""
    s = python(ENVIRONMENT, env={"DB_PASSWORD": "secret", "AWS_SECRET_ACCESS_KEY": "secret",
                                 "WANTED_ONE": "1", "WANTED_TWO": "2", "LANG": "C.UTF-8",
                                 "TZ": "UTC", "NUCLIO_OWN": "n"},
               own={"workerEnv": ["WANTED_*"]},
               spec={"description": "d", "version": 3, "env": [
                   {"name": "FROM_SPEC", "value": "${x}"}, {"name": "LANG", "value": "C"}]})
    env = json.loads(s.get().body)["env"]
    assert not [name for name, value in env.items() if "secret" in value]
    assert env["FROM_SPEC"] == "${x}" and env["LANG"] == "C" and env["TZ"] == "UTC"
    assert (env["WANTED_ONE"], env["WANTED_TWO"], env["NUCLIO_OWN"]) == ("1", "2", "n")
    assert env["NUCLIO_FUNCTION_NAME"] == "test" and env["NUCLIO_FUNCTION_VERSION"] == "3"
    assert env["NUCLIO_FUNCTION_DESCRIPTION"] == "d"
    assert env["NUCLIO_FUNCTION_HANDLER"] == env["NUCLIO_HANDLER"] == "handler:handler"
    assert env["PYTHONPATH"].split(":")[0] == str(tmp_path)


def test_a_worker_is_alone(python, tmp_path):
    """A session and a process group of its own, and no descriptors but those it is given."""
    s = python(ENVIRONMENT, workers=2)
    seen = json.loads(s.get().body)
    assert seen["pid"] == seen["pgid"] == seen["sid"]
    assert seen["cwd"] == str(tmp_path)
    assert len(seen["fds"]) < 14 and max(seen["fds"]) < 32
    limits = Path(f"/proc/{seen['pid']}/limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core file size"))
    assert core.split()[4] == "0"  # a dump would have the secrets of what it handled


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_user_of_workers(worker):
    """In a folder that others may enter, which pytest's may be only for a while."""
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="st-user-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Stator(folder, "", **python_options(
                folder, ENVIRONMENT, worker,
                own={"workerUser": f"{nobody.pw_uid}:{nobody.pw_gid}"})) as s:
            seen = json.loads(s.get().body)
            assert (seen["uid"], seen["gid"]) == (nobody.pw_uid, nobody.pw_gid)
            assert 0 not in seen["groups"]
            os.kill(seen["pid"], 9)  # the next one as well
            assert json.loads(s.get().body)["uid"] == nobody.pw_uid


def test_wrong_user(python):
    s = python(ENVIRONMENT, own={"workerUser": "nobody"}, ready=False, env=STRAYS)
    assert s.wait() == 1
    assert "workerUser" in s.stderr() and "1000:1000" in s.stderr()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_cpus_of_workers(python):
    """Each runs on the CPUs of its slot."""
    s = python(ENVIRONMENT, workers=2, own={"pin": "always"})
    slots = {slot["name"]: slot["cpus"] for slot in s.status()["slots"]}
    for worker in s.status()["pools"][0]["workers"]:
        allowed = Path(f"/proc/{worker['pid']}/status").read_text()
        line = next(li for li in allowed.splitlines() if li.startswith("Cpus_allowed_list"))
        assert line.split()[1] == slots[worker["slot"]]
    assert len(slots) > 1
    cpus = json.loads(s.get().body)["cpus"]
    assert len(cpus) < len(os.sched_getaffinity(0))
