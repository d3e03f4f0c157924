"""Platform: what surrounds a function."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Awaitable, Callable, Optional

    from stator.event import Event
    from stator.response import Response


class QualifiedOffset:
    """A place in a stream: topic, partition, offset."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset

    @staticmethod
    def from_event(event: Event) -> QualifiedOffset:
        """Where the event stands; streams without topics say it in the path."""
        return QualifiedOffset(event.topic or event.path, event.shard_id, event.offset)

    def compile_explicit_ack_message(self) -> dict[str, Any]:
        """The message that Nuclio's processor is told it by."""
        attributes = {"topic": self.topic, "partition": self.partition, "offset": self.offset}
        return {"kind": "streamMessageAck", "attributes": attributes}

    def __repr__(self) -> str:
        return f"QualifiedOffset({self.topic!r}, {self.partition}, {self.offset})"


class Platform:
    """`kind` ("local" or "kube") and `namespace` of the function, and what it may ask for."""

    def __init__(self, kind: str, namespace: str = "default",
                 connection_provider: Optional[Callable[..., Any]] = None,
                 on_explicit_ack: Optional[Callable[[QualifiedOffset], Awaitable[None]]] = None,
                 ) -> None:
        self.kind = kind
        self.namespace = namespace
        self._connection_provider = connection_provider
        self._on_explicit_ack = on_explicit_ack
        self._termination_callback: Optional[Callable[[], Any]] = None
        self._drain_callback: Optional[Callable[[], Any]] = None

    def call_function(self, function_name: str, event: Event, node: Any = None,
                      timeout: Optional[float] = None,
                      service_name_override: Optional[str] = None) -> Response:
        """Sends the event's method, path, headers and body to another function by HTTP, and waits
        for its answer; header names in it are in lower case, a body of type application/json is
        parsed. `node` has no meaning any more. In an `async def` handler await
        call_function_async() instead, which does not stop other events."""
        import json

        from stator.response import Response

        headers = {name: value for name, value in (event.headers or {}).items()
                   if name.lower() not in ("content-length", "content-type")}
        if isinstance(event.body, dict):
            body: Any = json.dumps(event.body)
            headers["Content-Type"] = "application/json"
        else:
            body = event.body
            headers["Content-Type"] = event.content_type or "text/plain"
        if not any(name.lower() == "x-nuclio-target" for name in headers):
            headers["X-Nuclio-Target"] = function_name
        if isinstance(body, str):
            body = body.encode()

        provider = self._connection_provider
        if provider is None:
            from http.client import HTTPConnection as provider
        connection = provider(self._address(function_name, service_name_override), timeout=timeout)
        try:
            connection.request(event.method or ("POST" if body else "GET"), event.path, body=body,
                               headers=headers)
            answer = connection.getresponse()
            answer_body = answer.read()
        finally:
            connection.close()

        answer_headers = {name.lower(): value for name, value in answer.getheaders()}
        content_type = answer_headers.get("content-type", "text/plain")
        if content_type == "application/json":
            answer_body = json.loads(answer_body)
        return Response(headers=answer_headers, body=answer_body, content_type=content_type,
                        status_code=answer.status)

    async def call_function_async(self, function_name: str, event: Event,
                                  timeout: Optional[float] = None,
                                  service_name_override: Optional[str] = None) -> Response:
        """call_function() on a thread."""
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(
            None, self.call_function, function_name, event, None, timeout, service_name_override)

    async def explicit_ack(self, qualified_offset: QualifiedOffset) -> None:
        """Marks a place in a stream as done. Without effect where no trigger knows the place."""
        if self._on_explicit_ack is not None:
            await self._on_explicit_ack(qualified_offset)

    def set_termination_callback(self, callback: Callable[[], Any]) -> None:
        """Called before the worker ends."""
        self._termination_callback = callback

    def set_drain_callback(self, callback: Callable[[], Any]) -> None:
        """Called when the worker has to give up what it holds, for instance before a trigger's
        partitions move."""
        self._drain_callback = callback

    def _address(self, function_name: str, service_name_override: Optional[str]) -> str:
        if service_name_override:
            return f"{service_name_override}:8080"
        if self.kind == "local":
            return f"nuclio-{self.namespace}-{function_name}:8080"
        return f"nuclio-{function_name}:8080"
