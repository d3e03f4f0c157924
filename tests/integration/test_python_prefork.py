"""spec.stator.prefork: workers are forked from a template that has imported the handler once. They
share the import and nothing else, are supervised like any other worker, and leave nothing behind.
Where a fork is not possible workers start one by one, after one warning."""

import json
import os
import pwd
import signal
import stat
from pathlib import Path

import pytest
from stator_proc import STRAYS, Stator, patience, wait_until
from test_python_start import BROKEN, workers_of
from test_python_supervision import is_alive

NATIVE = pytest.mark.parametrize("worker", ["native"], indirect=True)
CANNOT = "prefork: workers can't be forked"
LOST = "The template of the workers has ended"
READY = "The template of the workers is ready"

WHO = """
    import json, os, time

    TOKEN, IMPORTER = os.urandom(8).hex(), os.getpid()

    def init_context(context):
        context.user_data.pid = os.getpid()

    def handler(context, event):
        if event.body == b"hang":
            time.sleep(1000)
        time.sleep(0.02)  # one worker alone does not answer all
        return {"token": TOKEN, "importer": IMPORTER, "pid": os.getpid(),
                "init": context.user_data.pid, "parent": os.getppid(), "sid": os.getsid(0),
                "pgid": os.getpgid(0), "cpus": sorted(os.sched_getaffinity(0)),
                "fds": sorted(map(int, os.listdir("/proc/self/fd")))}
"""


def pids(s: Stator) -> list[int]:
    return [w["pid"] for w in s.status()["pools"][0]["workers"] if "pid" in w]


def template(s: Stator) -> int:
    """The process that all present workers were forked from."""
    return s.wait_log(READY)["pid"]


def ask_all(s: Stator, workers: int) -> list[dict]:
    """The answer of each worker, by requests that run at once."""
    found: dict[int, dict] = {}

    def more() -> bool:
        connections = [s.connect() for _ in range(2 * workers)]
        for c in connections:
            c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for c in connections:
            answer = json.loads(c.read_response().body)
            found[answer["pid"]] = answer
            c.close()
        return len(found) >= workers
    wait_until(more, 30, "an answer of each worker")
    return list(found.values())


def is_gone(pid: int) -> bool:
    """Not there, not as a zombie either."""
    return not Path(f"/proc/{pid}").exists()


@NATIVE
def test_workers_share_the_import(python):
    s = python(WHO, workers=6, own={"prefork": True})
    answers = ask_all(s, 6)
    assert sorted(a["pid"] for a in answers) == sorted(pids(s))
    assert len({a["token"] for a in answers}) == 1
    assert {a["importer"] for a in answers} == {template(s)}
    for a in answers:
        assert a["init"] == a["pid"] == a["sid"] == a["pgid"] != template(s)
        assert a["parent"] == s.pid
        assert max(a["fds"]) < 16
    assert not s.log(CANNOT)


@NATIVE
def test_shared_memory_is_reported(python):
    """A module with 40 MiB costs each worker only a little."""
    s = python("""
        DATA = [bytes(4096) + str(n).encode() for n in range(10000)]

        def handler(context, event):
            return str(len(DATA))
        """, workers=3, own={"prefork": True})
    assert s.get().body == b"10000"
    line = s.wait_log("Memory of a forked worker")
    assert line["workers"] == 3
    assert line["shared_bytes"] > 35 << 20 > 20 << 20 > line["own_bytes"]
    name = "stator_forked_worker_memory_bytes"
    assert s.metric(name, kind="shared") == line["shared_bytes"]
    assert s.metric(name, kind="own") == line["own_bytes"]


@NATIVE
def test_one_worker_and_async(python):
    """However few workers; a coroutine and an async init_context work as ever."""
    s = python("""
        import asyncio, os

        IMPORTER = os.getpid()

        async def init_context(context):
            context.user_data.loop = id(asyncio.get_running_loop())

        async def handler(context, event):
            await asyncio.sleep(0.01)
            same = context.user_data.loop == id(asyncio.get_running_loop())
            return f"{IMPORTER} {same}"
        """, workers=1, own={"prefork": True})
    assert s.get().body.decode() == f"{template(s)} True"


@NATIVE
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_cpus(python):
    s = python(WHO, workers=2, own={"prefork": True, "pin": "always"})
    slots = {slot["name"]: slot["cpus"] for slot in s.status()["slots"]}
    answers = {a["pid"]: a for a in ask_all(s, 2)}
    for worker in s.status()["pools"][0]["workers"]:
        assert ",".join(map(str, answers[worker["pid"]]["cpus"])) == slots[worker["slot"]]


@NATIVE
@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_user_of_forked_workers(python, tmp_path):
    """They are supervised, and end with the processor, all the same."""
    nobody = pwd.getpwnam("nobody")
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/"):
            os.chmod(folder, 0o755)
    s = python(WHO, workers=2, own={"prefork": True,
                                    "workerUser": f"{nobody.pw_uid}:{nobody.pw_gid}"})
    all_of = [template(s), *pids(s)]
    for pid in all_of:
        assert Path(f"/proc/{pid}").stat().st_uid == nobody.pw_uid
    assert s.wait_log("Memory of a forked worker")["workers"] == 2
    os.kill(s.pid, signal.SIGKILL)
    s.popen.wait()
    wait_until(lambda: not any(map(is_alive, all_of)))


# Restarts

@NATIVE
def test_a_killed_worker_is_forked_again(python):
    s = python(WHO, workers=2, own={"prefork": True})
    before = ask_all(s, 2)
    os.kill(before[0]["pid"], signal.SIGKILL)
    wait_until(lambda: before[0]["pid"] not in pids(s) and len(pids(s)) == 2)
    after = ask_all(s, 2)
    assert {a["token"] for a in before + after} == {before[0]["token"]}
    assert before[0]["pid"] not in [a["pid"] for a in after]
    assert is_gone(before[0]["pid"])


@NATIVE
def test_event_timeout_ends_a_forked_worker(python):
    s = python(WHO, workers=1, own={"prefork": True}, spec={"eventTimeout": "500ms"})
    before = json.loads(s.get().body)
    assert s.request("POST", "/", body=b"hang").status == 408
    after = json.loads(s.get().body)
    assert after["pid"] != before["pid"] and after["token"] == before["token"]
    wait_until(lambda: is_gone(before["pid"]))


@NATIVE
def test_kill_9_of_the_template(python):
    """Workers live on; the next one that has to start makes another template."""
    s = python(WHO, workers=2, own={"prefork": True})
    before = ask_all(s, 2)
    os.kill(template(s), signal.SIGKILL)
    assert "SIGKILL" in s.wait_log(LOST)["reason"]
    wait_until(lambda: is_gone(before[0]["importer"]))
    assert {a["pid"] for a in ask_all(s, 2)} == {a["pid"] for a in before}
    os.kill(before[0]["pid"], signal.SIGKILL)
    wait_until(lambda: before[0]["pid"] not in pids(s) and len(pids(s)) == 2)
    tokens = {a["pid"]: a["token"] for a in ask_all(s, 2)}
    assert len(set(tokens.values())) == 2 and tokens[before[1]["pid"]] == before[1]["token"]
    assert not s.log(CANNOT)


@NATIVE
def test_templates_that_are_killed_again_and_again(python):
    """One that has forked a worker does not count against the next one."""
    s = python(WHO, workers=3, own={"prefork": True})
    for n in range(1, 6):
        os.kill(s.log(READY)[-1]["pid"], signal.SIGKILL)
        wait_until(lambda n=n: len(s.log(LOST)) == n)
        os.kill(pids(s)[n % 3], signal.SIGKILL)
        s.wait_metric(n, "stator_worker_restarts_total")
        s.wait_metric(3, "stator_workers", state="idle")
        wait_until(lambda n=n: len(s.log(READY)) == n + 1)  # the log is written a little later
    assert not s.log(CANNOT)


@NATIVE
def test_templates_that_die_of_a_fork(python):
    """Three of them, then workers start one by one."""
    s = python("""
        import os, signal, sys

        if "stator._worker.template" in sys.modules:
            os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGKILL))

        def handler(context, event):
            return "ok"
        """, workers=3, own={"prefork": True})
    assert s.get().body == b"ok"
    assert len(s.log(READY)) == 3 and len(s.log(CANNOT)) == 1
    assert "SIGKILL" in s.log(CANNOT)[0]["reason"]


# What can't be imported

@NATIVE
@pytest.mark.parametrize("code, pieces", [case[1:] for case in BROKEN],
                         ids=[case[0] for case in BROKEN])
def test_what_can_not_be_imported(python, code, pieces):
    """The same one error as without a template."""
    s = python(code, workers=6, ready=False, env=STRAYS, own={"prefork": True})
    assert s.wait() == 1
    text = s.stderr()
    assert len([line for line in text.splitlines() if line.startswith("stator: ")]) == 1, text
    for piece in pieces:
        assert piece in text, (piece, text)
    wait_until(lambda: not workers_of(s.dir))


@NATIVE
def test_an_import_that_ends_the_process(python):
    s = python("""
        import os, sys
        print("the driver is broken", file=sys.stderr, flush=True)
        os._exit(7)
        """, ready=False, env=STRAYS, own={"prefork": True})
    assert s.wait() == 1
    assert "exited with status 7 before it was ready: the driver is broken" in s.stderr()


@NATIVE
def test_code_that_breaks_later(python):
    """The template is lost and its code has an error by then: workers are tried again."""
    s = python(WHO, workers=2, own={"prefork": True})
    code = (s.dir / "handler.py").read_text()
    (s.dir / "handler.py").write_text("import not_there_at_all\n")
    os.kill(template(s), signal.SIGKILL)
    s.wait_log(LOST)
    os.kill(pids(s)[0], signal.SIGKILL)
    assert "pip install not_there_at_all" in s.wait_log("A worker did not start")["error"]
    (s.dir / "handler.py").write_text(code)
    s.wait_metric(2, "stator_workers", state="idle")


@NATIVE
def test_output_of_the_import(python):
    s = python("""
        print("to be seen once")

        def handler(context, event):
            print("of", event.body.decode())
        """, workers=3, own={"prefork": True})
    s.request("POST", "/", body=b"an event")
    s.wait_log("of an event")
    assert len(s.log("to be seen once")) == 1


# Where a fork is not possible

THREADS = """
    import os, threading, time

    IMPORTER = os.getpid()
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()

    def handler(context, event):
        return str(IMPORTER == os.getpid())
"""


@NATIVE
def test_threads_of_the_import(python):
    s = python(THREADS, workers=3, own={"prefork": True})
    assert s.get().body == b"True"
    warnings = s.log(CANNOT)
    assert len(warnings) == 1 and "started 1 thread," in warnings[0]["reason"]
    os.kill(pids(s)[0], signal.SIGKILL)
    s.wait_metric(1, "stator_worker_restarts_total")
    s.wait_metric(3, "stator_workers", state="idle")
    assert len(s.log(CANNOT)) == 1
    wait_until(lambda: sorted(workers_of(s.dir)) == sorted(pids(s)))  # the template is gone


@pytest.mark.parametrize("worker", ["portable"], indirect=True)
def test_portable_worker(python):
    s = python(WHO, workers=2, own={"prefork": True})
    answers = ask_all(s, 2)
    assert all(a["importer"] == a["pid"] for a in answers)
    assert len(s.log(CANNOT)) == 1 and "stator._native" in s.log(CANNOT)[0]["reason"]


def test_runtime_without_templates(start):
    s = start("echo", own={"prefork": True})
    assert "spec.stator.prefork: has no effect for handlers of runtime native" in s.stderr()
    assert s.request("POST", "/", body=b"x").body == b"x"


HOSTILE = """#!/usr/bin/python3
import os, sys
if "--template" not in sys.argv:
    os.execv("/usr/bin/python3", ["python3", *sys.argv[1:]])
sys.argv = ["x"]
from stator._worker import template, wire
control = template._Control(3)
control.send("hello", protocol=PROTOCOL, template=True)
control.configuration()
control.send("ready")
while True:
    message = control.read()
    if message is None:
        break
    if message[0] == "fork":
        control.send("forked", worker=message[1]["worker"], pid=PID)
"""


@NATIVE
@pytest.mark.parametrize("pid", ["1", "-1", "os.getppid()", "os.getpid()", "os.fork() or 1"])
def test_hostile_template(python, tmp_path, pid):
    """It names processes that are not its to give: they live on, workers start without it."""
    program = tmp_path / "interpreter"
    program.write_text(HOSTILE.replace("PROTOCOL", "wire.PROTOCOL").replace("PID", pid))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    s = python(WHO, workers=2, own={"prefork": True},
               spec={"runtimeAttributes": {"python": str(program)}})
    assert len(ask_all(s, 2)) == 2
    assert "not asked for" in s.log(CANNOT)[0]["reason"]


@NATIVE
def test_template_of_another_protocol(python, tmp_path):
    program = tmp_path / "interpreter"
    program.write_text(HOSTILE.replace("PROTOCOL", "99").replace("PID", "0"))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    s = python(WHO, workers=2, ready=False, env=STRAYS, own={"prefork": True},
               spec={"runtimeAttributes": {"python": str(program)}})
    assert s.wait() == 1
    assert "another version of the worker wire" in s.stderr()


@NATIVE
def test_processes_are_scarce(python, tmp_path):
    """A fork that fails for now is a start that fails for now."""
    program = tmp_path / "interpreter"
    program.write_text(HOSTILE.replace("PROTOCOL", "wire.PROTOCOL").replace(
        "pid=PID", "text='fork: no more', temporary=True"))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    s = python(WHO, workers=2, ready=False, env=STRAYS, own={"prefork": True},
               spec={"runtimeAttributes": {"python": str(program)}})
    assert s.wait() == 1
    assert "fork: no more" in s.stderr()


# The end

@NATIVE
def test_sigterm_leaves_nothing(python):
    s = python(WHO, workers=3, own={"prefork": True})
    all_of = [template(s), *pids(s)]
    s.stop()
    wait_until(lambda: all(map(is_gone, all_of)))


@NATIVE
def test_sigkill_leaves_nothing(python):
    """Neither idle workers nor those that hang, nor the template."""
    s = python(WHO, workers=3, own={"prefork": True})
    all_of = [template(s), *pids(s)]
    with s.connect() as c:
        c.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nhang")
        wait_until(lambda: s.metric("stator_workers", state="full") == 1)
        os.kill(s.pid, signal.SIGKILL)
        s.popen.wait()
    wait_until(lambda: not any(map(is_alive, all_of)))  # who collects them is not known


@NATIVE
def test_sigterm_while_the_template_imports(python):
    s = python("import time\ntime.sleep(1000)\ndef handler(context, event): pass", ready=False,
               workers=2, own={"prefork": True}, env=STRAYS)
    wait_until(lambda: len(workers_of(s.dir)) == 1)
    assert s.stop() < patience(5)
    wait_until(lambda: not workers_of(s.dir))


@NATIVE
def test_sigterm_while_a_worker_waits_for_the_template(python):
    """It would take for ever; nobody waits for that."""
    s = python(WHO, workers=2, own={"prefork": True})
    (s.dir / "handler.py").write_text("import time\ntime.sleep(1000)\n")
    old = template(s)
    os.kill(old, signal.SIGKILL)
    s.wait_log(LOST)
    os.kill(pids(s)[0], signal.SIGKILL)
    wait_until(lambda: len(workers_of(s.dir)) == 2 and len(pids(s)) == 1)
    assert s.stop() < patience(5)
    wait_until(lambda: not workers_of(s.dir))
