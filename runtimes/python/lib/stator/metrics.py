"""Metrics: what a function counts and measures itself."""

from __future__ import annotations

from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional, Union

    Number = Union[int, float]

MAX_NAMES = 64
MAX_NAME = 64
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_INF = float("inf")


class Metrics:
    """Counters and gauges by name. From any thread.

    In a worker what they hold goes to the processor every 100 ms, whose /metrics has it as
    stator_handler_total and stator_handler_gauge. Without a processor they keep it: `counts` and
    `gauges` are dicts of name -> number.

    A name has at most 64 letters (a-z), digits and underscores, no digit first. A function has at
    most 64 names; others are left out."""

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}
        self.gauges: dict[str, float] = {}
        self._names: set[tuple[str, bool]] = set()
        self._dropped = 0
        self._dropped_name = ""
        self._lock = allocate_lock()
        self._on_change: Optional[Callable[[], None]] = None  # called with the lock

    def count(self, name: str, n: Number = 1) -> None:
        """Adds n to a counter. ValueError: no such name, or n is negative or not finite."""
        if not 0 <= n < _INF:
            raise ValueError(f"count({name!r}): 0 or more expected, not {n!r}")
        n = float(n)
        with self._lock:
            if self._is_kept(name, False):
                self.counts[name] = self.counts.get(name, 0.0) + n

    def gauge(self, name: str, value: Number) -> None:
        """Sets a gauge of this worker. ValueError: no such name, or the value is not finite."""
        if not -_INF < value < _INF:
            raise ValueError(f"gauge({name!r}): a finite number expected, not {value!r}")
        value = float(value)
        with self._lock:
            if self._is_kept(name, True):
                self.gauges[name] = value

    def _is_kept(self, name: str, is_gauge: bool) -> bool:
        kept = (name, is_gauge) in self._names
        if not kept:
            _check_name(name)
            kept = len(self._names) < MAX_NAMES
            if kept:
                self._names.add((name, is_gauge))
            else:
                self._dropped += 1
                self._dropped_name = name
        if self._on_change is not None:
            self._on_change()
        return kept

    def _take(self) -> list[dict[str, object]]:
        """What has changed since it was taken last: fields of Metric messages."""
        with self._lock:
            found: list[dict[str, object]] = [
                {"name": name, "value": min(n, 1e300)} for name, n in self.counts.items()]
            found += [{"name": name, "value": value, "gauge": True}
                      for name, value in self.gauges.items()]
            if self._dropped:
                found.append({"name": self._dropped_name, "dropped": self._dropped})
            self.counts.clear()
            self.gauges.clear()
            self._dropped = 0
        return found

    def _forget(self) -> None:
        """In a process that was forked off: what it counts is not the worker's."""
        self._lock = allocate_lock()
        self._on_change = None


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a name expected, not {type(name).__name__}")
    if not 0 < len(name) <= MAX_NAME or name[0].isdigit() or not _LETTERS.issuperset(name):
        raise ValueError(f"{name[:2 * MAX_NAME]!r} is no name of a metric: a-z, digits and _, no "
                         f"digit first, at most {MAX_NAME}")
