"""Exceptions of Nuclio's SDK."""

from __future__ import annotations

from typing import Any, Optional


class ExceptionWithResponse(IOError):
    """An exception that knows an answer; for code that passes it on itself. A handler that raises
    it is answered with 500 as with any other exception, as in Nuclio."""

    def __init__(self, status_code: int, body: Any = None,
                 content_type: Optional[str] = None) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code
        self.body = body
        self.content_type = content_type
