"""stator run --watch: workers are replaced when the code changes, and no request is lost by it."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from http_raw import build_request
from kill_load import children
from stator_proc import STRAYS, Stator, handler_path, patience, run_cli, wait_until
from test_python_supervision import Clients

CHANGED = "The code has changed"
DONE = "All workers have the changed code"
FAILED = "A worker with the changed code did not start"
RESTARTS = "stator_worker_restarts_total"

CODE = """
import os, time
{more}
def handler(context, event):
    if event.body == b"wait":
        while not os.path.exists("go"):
            time.sleep(0.01)
    time.sleep(0.001)
    return "{answer}"
"""


@pytest.fixture(name="worker")
def worker_fixture() -> str:
    """The add-on is enough."""
    return "native"


def save(path: Path, text: str) -> None:
    """As an editor does: a new file in place of the old one."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def edit(folder: Path, answer: str, more: str = "") -> None:
    """The handler gives another answer."""
    save(folder / "handler.py", CODE.format(answer=answer, more=more))


@pytest.fixture(name="watched")
def watched_fixture(python, tmp_path) -> Callable[..., Stator]:
    """watched(workers): a function whose handler answers "zero", with --watch."""
    def start(workers: int, **options: Any) -> Stator:
        return python(CODE.format(answer="zero", more=""), workers=workers, args=("--watch",),
                      **options)
    return start


def wait_done(s: Stator, times: int) -> None:
    """So many changes have arrived everywhere, and the old workers are gone."""
    wait_until(lambda: len(s.log(DONE)) >= times, 20, f"{times} times: {DONE}\n{s.report()}")
    s.wait_metric(0, "stator_workers", state="draining")


def test_edits_under_load(watched, tmp_path):
    s = watched(3)
    clients = [Clients(s) for _ in range(6)]
    before = set(children(s.pid))
    for c in clients:
        c.start()
    for n, answer in enumerate(("one", "two", "three", "four"), start=1):
        edit(tmp_path, answer)
        wait_done(s, n)
        after = set(children(s.pid))
        assert len(after) == 3 and not after & before
        before = after
        answers = {s.post(b"x").body for _ in range(20)}
        assert answers == {answer.encode()}
    for c in clients:
        c.finish()
        assert c.error is None, c.error
        assert set(c.answers) == {200} and c.answers[200] == c.sent > 20
    assert s.metric(RESTARTS) == s.metric(RESTARTS, reason="code") == 12
    assert s.metric("stator_workers") == 3
    assert all(w["restarts"] == 4 for w in s.status()["pools"][0]["workers"])
    assert not s.status()["degraded"]
    assert not [r for r in s.log() if r["level"] == "error"]


def test_prefork(watched, tmp_path):
    """New workers are forked from a template with the new code."""
    s = watched(2, own={"prefork": True})
    s.wait_log("The template of the workers is ready")
    for n, answer in enumerate(("one", "two"), start=1):
        edit(tmp_path, answer)
        wait_done(s, n)
        assert {s.get().body for _ in range(10)} == {answer.encode()}
        assert len(s.log("The template of the workers is ready")) == n + 1
    edit(tmp_path, "three", "0 = 1")
    assert "handler.py:3: SyntaxError" in s.wait_log(FAILED)["error"]
    assert {s.get().body for _ in range(10)} == {b"two"}
    edit(tmp_path, "four")
    wait_done(s, 3)
    assert {s.get().body for _ in range(10)} == {b"four"}


@pytest.mark.parametrize("workers", [1, 3])
def test_code_that_does_not_load_changes_nothing(watched, tmp_path, workers):
    s = watched(workers)
    before = set(children(s.pid))
    with (tmp_path / "handler.py").open("a", encoding="utf-8") as f:
        f.write("    oh no\n")
    record = s.wait_log(FAILED)
    assert record["replaced"] == 0
    assert "handler.py:10: SyntaxError" in record["error"]
    assert set(children(s.pid)) == before
    assert {s.get().body for _ in range(10)} == {b"zero"}
    assert s.ready() == 200
    edit(tmp_path, "one")
    wait_done(s, 1)
    assert {s.get().body for _ in range(10)} == {b"one"}


def test_events_that_run_end_with_the_old_code(watched, tmp_path):
    """Also with one worker nobody waits: the new one serves while the old one ends."""
    s = watched(1)
    with s.connect() as c:
        c.send(build_request("POST", "/", b"wait"))
        s.wait_metric(1, "stator_events_in_flight")
        edit(tmp_path, "one")
        s.wait_log(DONE)
        assert s.get().body == b"one"
        s.wait_metric(1, "stator_events_in_flight")
        (tmp_path / "go").touch()
        answer = c.read_response()
        assert (answer.status, answer.body) == (200, b"zero")
        assert c.ask("GET").body == b"one"
    wait_done(s, 1)


def test_sigterm_waits_for_events_of_old_workers(watched, tmp_path):
    s = watched(1)
    with s.connect() as c:
        c.send(build_request("POST", "/", b"wait"))
        s.wait_metric(1, "stator_events_in_flight")
        edit(tmp_path, "one")
        s.wait_log(DONE)
        s.signal()
        s.wait_log("Draining")
        (tmp_path / "go").touch()
        assert c.read_response().body == b"zero"
    assert s.wait() == 0


def test_the_last_change_counts(watched, tmp_path):
    """One that comes while workers are replaced: they are again."""
    s = watched(2)
    edit(tmp_path, "one", "open('began', 'w'); time.sleep(1000)")
    wait_until((tmp_path / "began").exists)
    edit(tmp_path, "two")
    wait_done(s, 1)
    assert {s.get().body for _ in range(10)} == {b"two"}
    assert len(children(s.pid)) == 2


def test_stops_while_a_worker_starts(watched, tmp_path):
    s = watched(2)
    edit(tmp_path, "one", "open('began', 'w'); time.sleep(1000)")
    wait_until((tmp_path / "began").exists)
    assert s.get().body == b"zero"
    assert s.stop() < patience(5)


def test_what_counts_as_code(watched, tmp_path):
    """Modules in new folders do; caches, hidden files and other files do not."""
    s = watched(1)
    for name in ("__pycache__/handler.py", ".git/handler.py", ".handler.py", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("0 = 1", encoding="utf-8")
    time.sleep(0.5)
    assert not s.log(CHANGED)
    (tmp_path / "package" / "inner").mkdir(parents=True)
    module = tmp_path / "package" / "inner" / "module.py"
    save(module, "ANSWER = 'one'")
    edit(tmp_path, '" + package.inner.module.ANSWER + "', "import package.inner.module")
    wait_until(lambda: s.get().body == b"one", 20)
    save(module, "ANSWER = 'two'")
    wait_until(lambda: s.get().body == b"two", 20)
    assert not s.log(FAILED)


def test_configuration_is_not_read_again(watched, tmp_path):
    s = watched(1)
    config = tmp_path / "test-function.yaml"
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert s.wait_log("The configuration has changed")["file"] == os.path.realpath(config)
    assert not s.log(CHANGED)


# Native handlers

def test_native_handler_in_processes(start, tmp_path):
    code = tmp_path / "code"
    code.mkdir()
    shutil.copy(handler_path("hello"), code / "it.so")
    s = start(str(code / "it.so"), own={"isolation": "process"}, workers=2, args=("--watch",))
    before = s.get().body
    shutil.copy(handler_path("echo"), code / "new")
    os.replace(code / "new", code / "it.so")
    s.wait_log(DONE)
    assert before != b"x" and {s.post(b"x").body for _ in range(10)} == {b"x"}


@pytest.mark.parametrize("handler", ["hello", "echo_blocking"])
def test_native_handler_in_the_processor(start, handler):
    s = start(handler, ready=False, args=("--watch",), env=STRAYS)
    assert s.wait() == 1
    assert "stator: --watch needs workers that are processes: set spec.stator.isolation: process" \
        in s.stderr()


def test_help():
    assert "--watch" in run_cli("run", "--help").stdout
