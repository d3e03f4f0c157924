"""A handler that dies in process: a report on stderr, the exit status of its signal, no remains."""

import os
import re
import signal
import subprocess

import pytest
from http_raw import build_request
from stator_proc import SANITIZER

NO_CORE = ["prlimit", "--core=0:0"]
# A sanitizer would take the signal for itself and end the process in its own way.
SANITIZERS_ASIDE = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") +
                    ":handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0"
                    ":allow_user_segv_handler=1",
                    "TSAN_OPTIONS": os.environ.get("TSAN_OPTIONS", "") +
                    ":handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0"}


@pytest.mark.parametrize("handler", ["crash", "crash_blocking"])
@pytest.mark.parametrize("how, number", [(b"segv", signal.SIGSEGV), (b"abort", signal.SIGABRT),
                                         (b"fpe", signal.SIGFPE), (b"bus", signal.SIGBUS)])
def test_report_and_status(start, handler, how, number):
    s = start(handler, workers=2, prefix=NO_CORE, env=SANITIZERS_ASIDE)
    with s.connect() as c:
        assert c.ask("GET").body == b"alive"
        c.send(build_request("POST", "/", how))
        assert c.is_closed()
    assert s.wait() == -number
    lines = s.stderr().splitlines()
    name = signal.Signals(number).name
    assert lines[0].startswith(f"stator: crash: signal {int(number)} ({name})")
    assert re.fullmatch(rf"stator: handler \S*/{handler}\.so, worker [01] of http, event "
                        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", lines[1]), lines[1]
    assert any(f"/{handler}.so(" in line for line in lines[2:])  # the backtrace goes through it
    if how == b"segv":
        assert lines[0].endswith("at address 0x40")


def test_stack_overflow_is_reported_too(start):
    """On a stack of its own."""
    s = start("crash_blocking", prefix=NO_CORE, env=SANITIZERS_ASIDE)
    with s.connect() as c:
        c.send(build_request("POST", "/", b"stack"))
        assert c.is_closed()
    assert s.wait() == -signal.SIGSEGV
    assert "crash: signal 11 (SIGSEGV)" in s.stderr()
    assert "event " in s.stderr().splitlines()[1]


def test_crash_among_running_events(start):
    """Others run at that moment: one report, and the end."""
    s = start("crash_blocking", workers=4, prefix=NO_CORE, env=SANITIZERS_ASIDE)
    connections = [s.connect() for _ in range(8)]
    for c in connections:
        c.send(build_request("POST", "/", b"segv"))
    for c in connections:
        assert c.is_closed()
        c.close()
    assert s.wait() == -signal.SIGSEGV
    assert s.stderr().count("stator: crash:") == 1


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_signal_from_outside(start, number):
    """Nothing ran: the report says so."""
    s = start("crash", prefix=NO_CORE, env=SANITIZERS_ASIDE)
    s.signal(number)
    assert s.wait() == -number
    assert "was not running on this thread" in s.stderr()


@pytest.mark.skipif(bool(SANITIZER), reason="a shell sees the sanitizer's own status")
@pytest.mark.parametrize("how, status", [(b"segv", 139), (b"abort", 134)])
def test_status_as_a_shell_sees_it(start, how, status):
    """What a container runtime reports."""
    s = start("crash", prefix=[*NO_CORE, "sh", "-c", '"$@"; exit $?', "sh"])
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(s.pid)], capture_output=True,
                              text=True, check=False).stdout.split()
    assert len(children) == 1
    with s.connect() as c:
        c.send(build_request("POST", "/", how))
        assert c.is_closed()
    assert s.wait() == status


def test_address_can_be_taken_again_at_once(start):
    s = start("crash", prefix=NO_CORE, env=SANITIZERS_ASIDE)
    port = s.port
    with s.connect() as c:
        c.send(build_request("POST", "/", b"abort"))
        assert c.is_closed()
    assert s.wait() == -signal.SIGABRT
    assert start("crash", url=f"127.0.0.1:{port}").get().body == b"alive"
