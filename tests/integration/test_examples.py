"""Each folder of docs/examples is served as it lies there and does what its README says.

The blocks "console" of a README are run: each line "$ COMMAND" with a shell, with our port for
8080, and its output is what follows; "..." in it stands for any text.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from confluent_kafka import Message
from http_raw import Address, Connection, build_request
from kafka_client import Client
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


def async_fanout(c: Connection) -> None:
    """A hundred events, each of at least 100 ms, on one worker: one after the other takes 10 s."""
    start = time.monotonic()
    c.send(build_request("GET") * 100)
    assert all(c.read_response().status == 200 for _ in range(100))
    assert time.monotonic() - start < 9


def sse(c: Connection) -> None:
    """The pieces come one by one."""
    answer = c.ask("POST", "/", b"one after the other")
    assert answer.header("Content-Type") == "text/event-stream"
    assert len(answer.chunks) > 1


def batch_scorer(c: Connection) -> None:
    """Eight requests at once are one batch, in which a wrong one spoils nothing."""
    rows = [[n] * (2 if n == 5 else 3) for n in range(8)]
    c.send(b"".join(build_request("POST", "/", json.dumps({"x": row}).encode(),
                                  [("Content-Type", "application/json")]) for row in rows))
    answers = [c.read_response() for _ in range(8)]
    assert [a.status for a in answers] == [400 if n == 5 else 200 for n in range(8)]
    assert [json.loads(a.body) for n, a in enumerate(answers) if n != 5] == [
        {"score": 1.5 * n, "batch": 8} for n in range(8) if n != 5]


# What an example does beside the commands of its README.
PROMISES: dict[str, Callable[[Connection], None]] = {
    "hello-c": hello_c, "async-fanout": async_fanout, "sse": sse, "batch-scorer": batch_scorer}


def commands(folder: Path) -> list[tuple[str, str]]:
    """The commands of its README and what each prints."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S):
        for step in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = step.partition("\n")
            found.append((command, output))
    return found


def run_command(command: str, port: int, expected: str) -> None:
    """With curl as a user has it; its own newline at the end is as good as none."""
    assert ":8080/" in command
    done = subprocess.run(["bash", "-c", command.replace(":8080/", f":{port}/")], check=False,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=patience(30))
    pattern = ".*".join(re.escape(part) for part in expected.rstrip("\n").split("..."))
    assert done.returncode == 0, (command, done.stderr)
    printed = done.stdout.replace("\r\n", "\n").rstrip("\n")
    assert re.fullmatch(pattern, printed), (command, printed)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_has_a_readme_and_a_configuration(name):
    folder = ROOT / "docs" / "examples" / name
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {name}\n")
    assert (folder / "function.yaml").is_file()


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_does_what_it_says(tmp_path, name):
    folder = ROOT / "docs" / "examples" / name
    with served(tmp_path, str(folder)) as address:
        for command, output in commands(folder):
            run_command(command, address[1], output)
        with Connection(address, patience(15)) as c:
            if name in PROMISES:
                PROMISES[name](c)
            else:
                assert c.ask("GET").status < 500


def run_by_clock(tmp_path: Path, name: str, line: str, count: int) -> list[tuple[str, ...]]:
    """Without --port: what `line` has found in the log once it was there `count` times."""
    os.symlink(BUILD, tmp_path / "build")
    log = tmp_path / "log"
    with open(log, "wb") as out, subprocess.Popen(
            [str(BINARY), "run", str(ROOT / "docs" / "examples" / name)], stdin=subprocess.DEVNULL,
            stdout=out, stderr=out, cwd=tmp_path) as p:
        try:
            wait_until(lambda: len(re.findall(line, log.read_text())) >= count, 20, line)
            p.send_signal(signal.SIGTERM)
            assert p.wait(patience(15)) == 0, log.read_text()
        finally:
            p.kill()
    return re.findall(line, log.read_text())


def test_cron_c_ticks(tmp_path):
    """Lines in the log, two seconds apart."""
    due = [datetime.fromisoformat(text) for text
           in run_by_clock(tmp_path, "cron-c", r"still here, due at (\S+)", 2)]
    assert all((b - a).total_seconds() % 2 == 0 and b > a for a, b in zip(due, due[1:]))
    assert all(d.second % 2 == 0 for d in due)


def test_cron_heartbeat_counts(tmp_path):
    """Lines in the log, and one worker that remembers."""
    beats = run_by_clock(tmp_path, "cron-heartbeat",
                         r'still here \{"beat": (\d+), "due": "\S+Z", "worker_id": "0"', 3)
    assert beats == [str(n + 1) for n in range(len(beats))]


def test_hello_c_by_hand(tmp_path):
    """The commands of its README: compile in any folder, run without configuration."""
    subprocess.run(["cc", "-shared", "-fPIC", "-I", str(ROOT / "runtimes/native/include"), "-o",
                    "hello.so", str(ROOT / "docs/examples/hello-c/hello.c")], cwd=tmp_path,
                   check=True, stdin=subprocess.DEVNULL)
    with served(tmp_path, "hello.so") as address, Connection(address, patience(15)) as c:
        hello_c(c)


@contextlib.contextmanager
def reading_kafka(tmp_path: Path, name: str, kafka: Client, group: str,
                  topic: str) -> Iterator[None]:
    """The example, until it has committed all of its topic."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAFKA", kafka.bootstrap)
        with served(tmp_path, str(ROOT / "docs" / "examples" / name)):
            yield
            wait_until(lambda: kafka.lag(group, topic) == 0, 30, f"{group} has read all")


def by_key(messages: list[Message]) -> dict[str, list[dict]]:
    """JSON values of each key, in order."""
    found: dict[str, list[dict]] = {}
    for m in messages:
        found.setdefault(m.key().decode(), []).append(json.loads(m.value()))
    return found


def test_clickstream_enriches(tmp_path, kafka):
    """Who it was, sessions and their clicks in order; what is no click is put aside."""
    for topic in ("clicks", "clicks-enriched", "clicks-dead"):
        kafka.create_topic(4, name=topic)
    users = ["ada", "grace", *(f"user{n}" for n in range(20))]
    clicks = [(user, json.dumps({"user": user, "page": f"/{n}", "at": 1000 * n}))
              for n in range(5) for user in users]
    clicks[30:30] = [("ada", "no JSON"), ("grace", '{"user": "grace"}')]
    with reading_kafka(tmp_path, "clickstream", kafka, "clickstream", "clicks"):
        kafka.produce("clicks", clicks)
        kafka.produce("clicks", [("ada", json.dumps({"user": "ada", "page": "/", "at": 5801}))])
    found = by_key(kafka.read("clicks-enriched"))
    assert set(found) == set(users)
    assert all([c["page"] for c in found[user]][:5] == [f"/{n}" for n in range(5)]
               for user in users)
    assert [(c["session"], c["click"], c["name"], c["country"]) for c in found["ada"]] == [
        *(("ada-0", n + 1, "Ada Lovelace", "GB") for n in range(5)),
        ("ada-5801", 1, "Ada Lovelace", "GB")]
    assert found["user7"][4] == {"user": "user7", "page": "/4", "at": 4000, "name": None,
                                 "country": None, "session": "user7-0", "click": 5}
    dead = {m.value(): dict(m.headers())["st-error"] for m in kafka.read("clicks-dead")}
    assert set(dead) == {b"no JSON", b'{"user": "grace"}'}
    assert all(b"no click" in reason for reason in dead.values())


def test_click_counts_add_up(tmp_path, kafka):
    """Each key's messages by the minute, also with more keys than fit; the last minute is open."""
    kafka.create_topic(4, name="click-counts")
    topic, start = kafka.create_topic(4), 1_790_000_040
    folder = tmp_path / "click-counts"
    folder.mkdir()
    text = (ROOT / "docs/examples/click-counts/function.yaml").read_text(encoding="utf-8")
    (folder / "function.yaml").write_text(text.replace("[clicks]", f"[{topic}]"), encoding="utf-8")
    sent: Counter[tuple[str, int]] = Counter()
    messages = []
    for minute in range(3):
        for n in range(6000):
            key, at = f"k{n % (3000 if minute == 1 else 7)}", start + 60 * minute
            sent[key, at] += 1
            messages.append({"key": key, "value": "", "timestamp": (at + n // 100) * 1000})
    messages += [{"partition": p, "key": "last", "timestamp": (start + 180) * 1000}
                 for p in range(4)]
    kafka.produce(topic, messages)
    with reading_kafka(tmp_path, str(folder), kafka, "click-counts", topic):
        pass
    got: Counter[tuple[str, int]] = Counter()
    for key, counts in by_key(kafka.read("click-counts")).items():
        for c in counts:
            got[key, c["minute"]] += c["count"]
    assert got == sent
