"""How long Python workers take to start, one by one or from a template (spec.stator.prefork)."""

import os
import signal
import time
from pathlib import Path

from stator_proc import Stator, python_options

SMALL = """
    import json, os

    def handler(context, event):
        return str(os.getpid())
"""

# Imports for half a second: sleeping, or computing.
SLEEPS = "import time\ntime.sleep(0.5)\n\ndef handler(context, event):\n    pass\n"
COMPUTES = ("import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end:\n"
            "    pass\n\ndef handler(context, event):\n    pass\n")


def restarts(folder: Path, prefork: bool, rounds: int, pause: float = 0) -> list[float]:
    """Seconds from the kill of the only worker to the answer of the next one, sorted. Short lives,
    by a short pause, make the pool wait before it starts a worker that is slow to start."""
    found = []
    with Stator(folder, "", workers=1, own={"prefork": prefork},
                **python_options(folder, SMALL)) as s, s.connect() as c:
        pid = int(c.ask("GET", "/").body)
        for _ in range(rounds):
            time.sleep(pause)
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            while (answer := c.ask("GET", "/")).status != 200 or int(answer.body) == pid:
                pass
            found.append(time.monotonic() - began)
            pid = int(answer.body)
    return sorted(found)


def ready(folder: Path, code: str, workers: int, prefork: bool) -> float:
    """Seconds from the start of the processor to its readiness."""
    with Stator(folder, "", workers=workers, own={"prefork": prefork},
                **python_options(folder, code)) as s:
        return s.log("Ready")[0]["milliseconds"] / 1000


def shares(folder: Path, code: str, workers: int) -> tuple[int, int]:
    """Bytes of a worker that it shares, and that it has of its own, on average."""
    with Stator(folder, "", workers=workers, own={"prefork": True},
                **python_options(folder, code)) as s:
        line = s.wait_log("Memory of a forked worker")
        return line["shared_bytes"], line["own_bytes"]
