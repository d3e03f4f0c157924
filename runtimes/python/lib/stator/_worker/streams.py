"""Streamed replies of the shared-memory data plane on an asyncio loop."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


async def send_all(stream: Any, body: Any) -> None:
    """Sends the body's pieces; stream is a _native.Stream."""
    if isinstance(body, (bytes, str)):
        await _send(stream, body)
    elif hasattr(body, "__anext__"):
        try:
            async for piece in body:
                await _send(stream, piece)
        finally:
            await body.aclose()
    else:
        from asyncio import sleep

        try:
            for piece in body:
                await _send(stream, piece)
                await sleep(0)  # other tasks run between its pieces
        finally:
            if hasattr(body, "close"):
                body.close()


async def _send(stream: Any, piece: Any) -> None:
    waiter = stream.send(piece)
    if waiter is not None:
        await waiter
