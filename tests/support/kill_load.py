"""Workers that are killed at random under load: what becomes of each request, and how long it takes
until all workers serve again."""

import os
import random
import selectors
import signal
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from http_raw import Connection, build_request
from stator_proc import Stator, patience, wait_until

# Answers with its process and the body, after a while.
HANDLER = """
    import os, time

    def handler(context, event):
        time.sleep(0.002)
        return f"{os.getpid()} {event.body.decode()}"
"""

LOST = b"The worker process was killed by signal 9 (SIGKILL) (while it handled this event)"


def children(pid: int) -> list[int]:
    """Processes whose parent it is."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except OSError:
            pass
    return found


@dataclass
class Kill:
    """back: seconds until all workers had answered since their start."""

    at: float
    served: bool    # it had answered
    back: float | None = None


@dataclass
class Client:
    """A connection with some requests on it, each with a number of its own."""

    connection: Connection
    pending: deque[int] = field(default_factory=deque)


class KillLoad:
    """Asks on all connections without a pause, `depth` requests at once on each, and kills workers
    meanwhile. Raises AssertionError where a request gets no answer, or that of another one."""

    def __init__(self, s: Stator, workers: int, connections: int = 8, depth: int = 1):
        self.s, self.workers, self.depth = s, workers, depth
        self.sent = 0
        self.answers: Counter[int] = Counter()
        self.kills: list[Kill] = []
        self.done: list[float] = []    # when a request was answered well
        self.serving: set[int] = set()
        self.killed: set[int] = set()
        self.selector = selectors.DefaultSelector()
        self.clients = [Client(s.connect()) for _ in range(connections)]
        for client in self.clients:
            self.selector.register(client.connection.socket, selectors.EVENT_READ, client)
            self._ask(client)

    def _ask(self, client: Client) -> None:
        numbers = range(self.sent, self.sent + self.depth)
        self.sent += self.depth
        client.pending.extend(numbers)
        client.connection.send(b"".join(build_request("POST", "/", b"%d" % n) for n in numbers))

    def _answer(self, client: Client) -> None:
        answer = client.connection.read_response()
        self.answers[answer.status] += 1
        number = client.pending.popleft()
        if answer.status != 200:
            assert (answer.status, answer.body) == (500, LOST), answer
            return
        pid, _, body = answer.body.partition(b" ")
        assert int(body) == number, f"{body!r} answers request {number}"
        self.done.append(time.monotonic())
        if int(pid) not in self.killed:
            self.serving.add(int(pid))

    def _serve(self, until: float, ending: bool = False) -> None:
        """Reads what there is, and asks again."""
        for key, _ in self.selector.select(max(0.0, until - time.monotonic())):
            client = key.data
            self._answer(client)
            while client.pending and client.connection.buffer:
                self._answer(client)
            if not client.pending and not ending:
                self._ask(client)
        if len(self.serving) == self.workers:
            now = time.monotonic()
            for kill in reversed(self.kills):
                if kill.back is not None:
                    break
                kill.back = now - kill.at

    def load(self, seconds: float) -> None:
        """No kills for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._serve(end)

    def load_until_whole(self, seconds: float = 20) -> None:
        """Until all workers have answered since their start."""
        end = time.monotonic() + patience(seconds)
        while len(self.serving) < self.workers:
            assert time.monotonic() < end, f"{len(self.serving)} of {self.workers} workers serve"
            self._serve(end)

    def _victims(self) -> list[int]:
        return [pid for pid in children(self.s.pid) if pid not in self.killed]

    def kill_one(self) -> None:
        """Any, also one that starts just now."""
        pid = random.choice(wait_until(self._victims))
        os.kill(pid, signal.SIGKILL)
        self.kills.append(Kill(time.monotonic(), pid in self.serving))
        self.killed.add(pid)
        self.serving.discard(pid)

    def finish(self) -> None:
        """Takes the answers that are missing and closes."""
        end = time.monotonic() + patience(20)
        while any(client.pending for client in self.clients):
            assert time.monotonic() < end, "an answer is missing"
            self._serve(end, ending=True)
        for client in self.clients:
            assert not client.connection.buffer
            client.connection.close()
        self.selector.close()
        assert sum(self.answers.values()) == self.sent

    def rate(self, begin: float, end: float) -> float:
        """Good answers a second."""
        return sum(begin <= at < end for at in self.done) / (end - begin)
