"""Each folder of docs/examples is served as it lies there and does what its README says."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from http_raw import Address, Connection
from stator_proc import BINARY, BUILD, ROOT, patience, wait_until

NO_FUNCTIONS = {"systemd"}      # how functions are run; test_packaging.py
EXAMPLES = sorted({p.name for p in (ROOT / "docs" / "examples").iterdir() if p.is_dir()}
                  - NO_FUNCTIONS)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_answering(p: subprocess.Popen, address: Address, log: Path) -> bool:
    """True when something answers; False when the process ended because its port was taken."""
    end = time.monotonic() + patience(20)
    while p.poll() is None:
        with contextlib.suppress(OSError):
            Connection(address, patience(5)).close()
            return True
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.01)
    assert "in use" in log.read_text(), log.read_text()
    return False


@contextlib.contextmanager
def served(tmp_path: Path, *words: str) -> Iterator[Address]:
    """`stator run WORDS --port N` as from the root of a repository whose build folder is ours."""
    if not (tmp_path / "build").exists():
        os.symlink(BUILD, tmp_path / "build")
    log = tmp_path / "log"
    for _ in range(5):
        port = free_port()
        with open(log, "wb") as out:
            p = subprocess.Popen([str(BINARY), "run", *words, "--port", str(port)], stdout=out,
                                 stdin=subprocess.DEVNULL, stderr=out, cwd=tmp_path)
        try:
            if not wait_answering(p, ("127.0.0.1", port), log):
                continue
            yield ("127.0.0.1", port)
            p.send_signal(signal.SIGTERM)
            assert p.wait(patience(15)) == 0, log.read_text()
            return
        finally:
            p.kill()
            p.wait()
    raise AssertionError("no free port")


def hello_c(c: Connection) -> None:
    """Greets, or echoes what it is sent."""
    assert c.ask("GET").body == b"Hello, world!\n"
    answer = c.ask("POST", "/", b"some text")
    assert (answer.status, answer.body) == (200, b"some text")
    assert answer.header("Content-Type") == "text/plain"


# What the README of an example promises; one without a line here must at least answer.
PROMISES: dict[str, Callable[[Connection], None]] = {"hello-c": hello_c}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_has_a_readme_and_a_configuration(name):
    folder = ROOT / "docs" / "examples" / name
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {name}\n")
    assert (folder / "function.yaml").is_file()


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_does_what_it_says(tmp_path, name):
    with served(tmp_path, str(ROOT / "docs" / "examples" / name)) as address:
        with Connection(address, patience(15)) as c:
            if name in PROMISES:
                PROMISES[name](c)
            else:
                assert c.ask("GET").status < 500


def test_cron_c_ticks(tmp_path):
    """Without --port, as its README has it: lines in the log, two seconds apart."""
    os.symlink(BUILD, tmp_path / "build")
    log = tmp_path / "log"
    with open(log, "wb") as out, subprocess.Popen(
            [str(BINARY), "run", str(ROOT / "docs/examples/cron-c")], stdin=subprocess.DEVNULL,
            stdout=out, stderr=out, cwd=tmp_path) as p:
        try:
            wait_until(lambda: log.read_text().count("still here, due at ") >= 2, 20, "two ticks")
            p.send_signal(signal.SIGTERM)
            assert p.wait(patience(15)) == 0, log.read_text()
        finally:
            p.kill()
    due = [datetime.fromisoformat(text) for text
           in re.findall(r"still here, due at (\S+)", log.read_text())]
    assert all((b - a).total_seconds() % 2 == 0 and b > a for a, b in zip(due, due[1:]))
    assert all(d.second % 2 == 0 for d in due)


def test_hello_c_by_hand(tmp_path):
    """The commands of its README: compile in any folder, run without configuration."""
    subprocess.run(["cc", "-shared", "-fPIC", "-I", str(ROOT / "runtimes/native/include"), "-o",
                    "hello.so", str(ROOT / "docs/examples/hello-c/hello.c")], cwd=tmp_path,
                   check=True, stdin=subprocess.DEVNULL)
    with served(tmp_path, "hello.so") as address, Connection(address, patience(15)) as c:
        hello_c(c)
