"""Batches: several events in one call of a Python handler (Nuclio's batch{mode, batchSize,
timeout})."""

import textwrap
import threading
from pathlib import Path

import pytest
from http_raw import Connection
from stator_proc import Stator, patience

HANDLER = """
    import nuclio_sdk

    def handler(context, batch):
        bodies = [event.body for event in batch]
        if b"raise" in bodies:
            raise RuntimeError("no batch today")
        if b"odd" in bodies:
            return "no list"
        assert [event.last_in_batch for event in batch][-1]
        return [nuclio_sdk.Response(body="%d of %d" % (i, len(batch)), event_id=event.id)
                for i, event in enumerate(batch) if event.body != b"forget"]
"""


@pytest.fixture
def start(tmp_path: Path):
    running: list[Stator] = []

    def start(size: int, timeout: str) -> Stator:
        (tmp_path / "batch.py").write_text(textwrap.dedent(HANDLER))
        s = Stator(tmp_path, "", spec={"runtime": "python", "handler": "batch:handler"},
                   trigger={"batch": {"mode": "enable", "batchSize": size, "timeout": timeout}},
                   env={"NUCLIO_PYTHON_PATH": str(tmp_path)})
        running.append(s)
        return s

    yield start
    for s in running:
        s.kill()


def ask_all(s: Stator, bodies: list[bytes]) -> list[tuple[int, bytes]]:
    """The answers to requests that are all out at once, in their order."""
    answers: list[tuple[int, bytes]] = [(0, b"")] * len(bodies)

    def ask(i: int) -> None:
        with Connection(s.address, patience(15)) as c:
            answer = c.ask("POST", "/", bodies[i])
            answers[i] = (answer.status, answer.body)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(bodies))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return answers


def test_full_batches(start):
    s = start(4, "60s")
    answers = ask_all(s, [b"x"] * 8)
    assert sorted(answers) == sorted([(200, b"%d of 4" % i) for i in range(4)] * 2)


def test_a_batch_that_is_not_full_waits_for_its_time(start):
    s = start(100, "200ms")
    answers = ask_all(s, [b"x"] * 3)
    assert all(status == 200 for status, _ in answers)


def test_an_exception_answers_all(start):
    s = start(2, "60s")
    for status, body in ask_all(s, [b"raise", b"x"]):
        assert status == 500
        assert body.startswith(b'Exception caught in handler - "no batch today": Traceback')
    assert {status for status, _ in ask_all(s, [b"x", b"x"])} == {200}


def test_a_result_that_fits_no_event(start):
    s = start(2, "60s")
    assert {status for status, _ in ask_all(s, [b"odd", b"x"])} == {500}
    answers = ask_all(s, [b"forget", b"x"])
    assert answers[0][0] == 500
    assert answers[1][0] == 200


def test_large_bodies(start):
    """More than fits into one record: each event still gets its answer."""
    s = start(8, "60s")
    answers = ask_all(s, [b"y" * 300_000] * 8)
    assert {status for status, _ in answers} == {200}
