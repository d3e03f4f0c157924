"""What a handler says of an event that it does not handle now: raised, or given back."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

_MAX_DELAY = 4294967.0  # seconds; the processor counts milliseconds in 32 bits


class Outcome(Exception):
    """What Retry and Reject have in common.

    reason          text for people, in logs and dead letters; the body of an HTTP answer
    event_id        in the result of a batch: the event that it is about
    """

    reason: str
    event_id: Optional[str]

    def __init__(self, reason: Any = "", event_id: Optional[str] = None) -> None:
        super().__init__(reason)
        self.reason = str(reason)
        self.event_id = event_id


class Retry(Outcome):
    """The event shall come again: a message of a broker after `delay` seconds, or when its
    trigger's back-off says; a client of HTTP gets 503 with Retry-After."""

    delay: Optional[float]

    def __init__(self, delay: Optional[float] = None, reason: Any = "",
                 event_id: Optional[str] = None) -> None:
        if delay is not None and not 0 <= delay <= _MAX_DELAY:
            raise ValueError(f"a delay of {delay} s, 0 to {_MAX_DELAY:.0f} expected")
        super().__init__(reason, event_id)
        self.delay = delay


class Reject(Outcome):
    """The event shall never come again: a message goes to the dead letters, where its trigger has
    them; a client of HTTP gets 400 with the reason."""


def retry_after_ms(outcome: Outcome) -> int:
    """The delay in milliseconds, rounded up; 0: none was said."""
    delay = getattr(outcome, "delay", None)
    return max(1, -int(-delay * 1000 // 1)) if delay is not None else 0
