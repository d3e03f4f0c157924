"""The data plane in shared memory: what the add-on stator._native, which hosts the loop, asks of
Python."""

from __future__ import annotations

from stator import _json, _native
from stator._worker import results, wire
from stator.event import Event, parse_body
from stator.response import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from stator._worker.results import Reply
    from stator._worker.worker import Worker

_GO_ON, _DRAIN, _STOP = range(3)


class _Call:
    """The event that runs, as Worker.current() wants it."""

    __slots__ = ("_event",)

    def __init__(self, event: Any) -> None:
        self._event = event

    @property
    def seq(self) -> int:
        return self._event._seq

    @property
    def log_level(self) -> int:
        return self._event._log_level

    @property
    def logged(self) -> bool:
        return self._event._logged

    @logged.setter
    def logged(self, value: bool) -> None:
        self._event._logged = value


class _Hooks:
    """What _native.run() calls; see its text."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def started(self) -> None:
        worker = self._worker
        is_async = worker.handler.is_async or worker.keeps_loop
        worker.send_ready(worker.max_concurrency if is_async else 1)

    def control(self) -> int:
        worker = self._worker
        worker.on_control(worker.control.read())
        if worker.terminating:
            return _STOP
        return _DRAIN if worker.draining else _GO_ON

    def drained(self) -> None:
        self._worker.drained()

    def forked(self, status: int) -> None:
        self._worker.leave_if_forked(status)

    def map_result(self, output: Any) -> Reply:
        return results.to_reply(output)

    def map_error(self, exc: BaseException, event: Any) -> tuple[Any, ...]:
        worker = self._worker
        reply, trace = results.failure(exc)
        worker.report(exc, trace)
        return (*reply, *results.outcome(exc))

    def map_batch(self, output: Any, events: list[Any]) -> list[tuple[Any, ...]]:
        ids = [event.id for event in events]
        replies: list[tuple[Any, ...]] = []
        for ident, response in zip(ids, results.match_batch(output, ids)):
            if response is None:
                replies.append((*results.no_batch_result(ident), wire.OUTCOME_ERROR))
                continue
            try:
                reply = results.to_reply(response)
                if results.is_stream(reply[3]):
                    raise results.WrongResult("the results of a batch cannot be streamed")
                replies.append((*reply, wire.OUTCOME_OK))
            except BaseException as exc:
                replies.append((*results.failure(exc)[0], *results.outcome(exc)))
        return replies

    def open_cloud_event(self, event: Any) -> None:
        from stator._worker import cloudevents

        cloudevents.apply(event)

    def new_loop(self) -> Any:
        return self._worker.make_loop()

    response = Response
    encode_json = staticmethod(_json.encode)
    parse_body = staticmethod(parse_body)
    piece = staticmethod(results.piece)


def run(worker: Worker) -> None:
    """The loop of a worker; returns when the worker has to end."""

    def current() -> Optional[Any]:
        event = _native.current_event()
        return _Call(event) if event is not None else None

    worker.current = current  # type: ignore[method-assign]
    worker.send_message = _native.emit  # type: ignore[method-assign]
    _native.run(
        worker.handler.function, worker.context, _Hooks(worker),
        triggers=worker.source.triggers, event_class=Event,
        is_async=worker.handler.is_async or worker.keeps_loop, batch=worker.batch,
        max_concurrency=worker.max_concurrency, loop=worker.loop,
        decode_strings=worker.source.decode_strings)
    if worker.pending_callback is not None:
        worker.loop.run_until_complete(worker.pending_callback)
