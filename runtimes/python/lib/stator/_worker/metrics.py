"""Sends what a handler counts to the processor, from a thread of its own: then it leaves every
100 ms however long the handler takes, and the data planes know nothing of it."""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from time import monotonic, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stator._worker.control import Control
    from stator.metrics import Metrics

_INTERVAL = 0.1


class Sender:
    """Made with the context; the thread begins with the first count or gauge."""

    def __init__(self, control: Control, metrics: Metrics) -> None:
        self._control = control
        self._metrics = metrics
        self._wanted = False  # of the thread; under the lock of Metrics
        self._running = False
        self._wake = allocate_lock()  # free: there is something to send
        self._wake.acquire()
        metrics._on_change = self._on_change

    def _on_change(self) -> None:
        if self._wanted:
            return
        self._wanted = True
        if not self._running:
            try:
                start_new_thread(self._run, ())
            except RuntimeError:  # no more threads: the next change, drain or end tries again
                self._wanted = False
                return
            self._running = True
        self._wake.release()

    def _run(self) -> None:
        sent = 0.0
        while True:
            self._wake.acquire()
            now = monotonic()
            if now < sent + _INTERVAL:
                sleep(sent + _INTERVAL - now)
            with self._metrics._lock:
                self._wanted = False
            sent = monotonic()
            self.flush()

    def flush(self) -> None:
        """Sends what there is."""
        found = self._metrics._take()
        if not found:
            return
        try:
            self._control.send_all("metric", found)
        except OSError:
            pass  # the processor is gone, and the worker soon
