"""Response: what a handler answers when a status, a type or headers matter."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

NO_ACK_HEADER = "x-nuclio-stream-no-ack"


class Response:
    """An answer.

    headers         dict; values are text or numbers
    body            text, bytes, a dict (sent as JSON), or a generator of pieces to stream
    content_type    "text/plain" unless given
    status_code     200 to 599, 200 unless given
    event_id        in the result of a batch: the event that it answers
    """

    headers: dict[str, Any]
    body: Any
    content_type: str
    status_code: int
    event_id: Optional[str]

    def __init__(
        self,
        headers: Optional[dict[str, Any]] = None,
        body: Any = None,
        content_type: Optional[str] = None,
        status_code: int = 200,
        event_id: Optional[str] = None,
    ) -> None:
        self.headers = headers or {}
        self.body = body
        self.status_code = status_code
        self.content_type = content_type or "text/plain"
        self.event_id = event_id

    def ensure_no_ack(self) -> None:
        """The event's offset is not marked as done in its stream."""
        self.headers[NO_ACK_HEADER] = True

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({values})"
