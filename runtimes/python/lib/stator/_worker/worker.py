"""The worker: its start, the handler's context, and what the processor asks for."""

from __future__ import annotations

import os
import sys

from stator import _emit, _json
from stator._worker import wire
from stator._worker.control import Control
from stator._worker.events import Source
from stator._worker.metrics import Sender
from stator.context import Context
from stator.event import TriggerInfo
from stator.logger import Logger
from stator.outcomes import Outcome
from stator.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    import contextvars
    from typing import Any, Callable, Optional

    from stator._worker.loading import Handler
    from stator.platform import QualifiedOffset

_LEVELS = {10: 0, 20: 1, 30: 2, 40: 3}
_MAX_TOPIC = 1024
_NO = ("no", "false", "disable", "disabled")


def language() -> str:
    """What Hello says."""
    return "python " + ".".join(map(str, sys.version_info[:3]))


class Call:
    """An event, or a batch of them, that the handler has."""

    __slots__ = ("seq", "log_level", "logged", "started_ns", "window", "waiter", "task",
                 "streaming", "cancelled")

    def __init__(self, seq: int, log_level: int = wire.NO_LOG_LEVEL) -> None:
        self.seq = seq
        self.log_level = log_level  # what its client asked for
        self.logged = False
        self.started_ns = 0
        self.window = wire.STREAM_WINDOW
        self.waiter: Any = None
        self.task: Any = None
        self.streaming = False
        self.cancelled = False


class Worker:
    """What both data planes share.

    handler, context, source    what to call, with what; what its events share
    max_concurrency, batch      of the configuration
    loop                        the asyncio loop, or None: init_context() needed none
    keeps_loop                  there are tasks on it that must go on
    draining, terminating       what the processor asked for, see on_control()
    call                        the one that runs, where there is one at a time
    """

    handler: Handler

    def __init__(self, control: Control) -> None:
        self.control = control
        self.call: Optional[Call] = None
        # Where several run at once: each task's own. Made with the loop.
        self.calls: Optional[contextvars.ContextVar[Optional[Call]]] = None
        self.loop: Any = None
        self.keeps_loop = False
        self.draining = False
        self.terminating = False
        self.forked = False
        self.context: Any = None  # Context, once there is a configuration
        self._drain_asked = False
        self.pending_callback: Any = None  # a task, where one was a coroutine
        os.register_at_fork(after_in_child=self._in_child)

    def start(self, shared_memory: bool, handler: Optional[Handler] = None) -> None:
        """Says hello, takes the configuration, loads the handler (if the template has not) and
        runs init_context(). Raises loading.LoadError, and SystemExit when the processor is gone."""
        self.control.send("hello", protocol=wire.PROTOCOL, language=language(),
                          shared_memory=shared_memory)
        self._configure(self.control.configuration())
        if handler is None:
            from stator._worker import loading

            handler = loading.load(self.configuration["handler"], self.configuration["code_dir"])
        self.handler = handler
        if self.handler.init_context is not None:
            self._init_context(self.handler.init_context)

    def _configure(self, values: dict[str, Any]) -> None:
        self.configuration = values
        self.max_concurrency = max(1, values["max_concurrency"])
        self.batch = values["batch"]
        self.log_level = values["log_level"]
        decode = os.environ.get("NUCLIO_PYTHON_DECODE_EVENT_STRINGS", "").lower() not in _NO
        self.source = Source(
            [TriggerInfo(one["kind"], one["name"]) for one in values["triggers"]], decode)
        self._outputs = {name: name.encode() for name in values["outputs"]}
        pool = values["pool"] or {"kind": "", "name": ""}
        worker_id = str(values["worker"])
        self.logger = Logger(name=pool["name"], sink=self._log)
        self.logger.bind(worker_id=worker_id)
        self.platform = Platform(values["platform"] or "local", values["namespace"] or "default",
                                 on_explicit_ack=self._acknowledge)
        self.context = Context(self.logger, self.platform, worker_id,
                               TriggerInfo(pool["kind"], pool["name"]))
        self.context._emit = self._emit
        self._metrics = Sender(self.control, self.context.metrics)

    def _init_context(self, init_context: Callable[..., Any]) -> None:
        from stator._worker import loading

        try:
            output = init_context(self.context)
            if hasattr(output, "__await__"):
                self.run_awaitable(output)
        except BaseException as exc:
            from stator._worker.results import exception_text

            place = loading.place_of(exc)
            raise loading.LoadError(
                f"{place + ': ' if place else ''}init_context failed: "
                f"{type(exc).__name__}: {exception_text(exc)}") from exc

    def make_loop(self) -> Any:
        """The asyncio loop, uvloop's where there is one; not running."""
        if self.loop is None:
            import asyncio
            import contextvars

            try:
                import uvloop

                self.loop = uvloop.new_event_loop()
            except ImportError:
                self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
            self.calls = contextvars.ContextVar("call", default=None)
        return self.loop

    def run_awaitable(self, awaitable: Any) -> Any:
        """Awaits it on the loop, which does not run."""
        import asyncio

        async def wait() -> Any:
            return await awaitable

        loop = self.make_loop()
        output = loop.run_until_complete(wait())
        self.keeps_loop = bool(asyncio.all_tasks(loop))
        return output

    def send_ready(self, credits: int) -> None:
        self.control.send("ready", credits=credits, batch=self.batch)

    def warn(self, text: str, **variables: Any) -> None:
        self.logger.warn_with(text, **variables)

    def report(self, exc: BaseException, trace: str) -> None:
        """The log message for a handler's exception; Retry and Reject are none."""
        if isinstance(exc, Outcome):
            return
        from stator._worker.results import exception_text

        self.logger.error_with("Exception caught in handler", err=exception_text(exc),
                               traceback=trace)

    # Outputs

    def _emit(self, output: Any, value: Any, key: Any, headers: Any, topic: Any,
              event: Any) -> None:
        name = self._outputs.get(output)
        if name is None:
            raise _emit.unknown(output, self._outputs)
        if event is None and self.batch:
            raise _emit.EmitError("in a batch say which event: emit(..., event=event)")
        try:
            self.send_message(event, name, _emit.to_bytes("topic", topic) if topic else None,
                              _emit.to_key(key), _emit.pack(_emit.to_headers(headers)),
                              _emit.to_value(value))
        except (RuntimeError, ValueError) as exc:
            raise _emit.EmitError(str(exc)) from exc

    def send_message(self, event: Any, name: bytes, topic: Optional[bytes], key: Optional[bytes],
                     headers: Optional[bytes], value: Optional[bytes]) -> None:
        """An EMIT record, of the event that runs when there is none. RuntimeError: not here;
        ValueError: no room. Set by the data plane."""
        raise RuntimeError("nothing can be emitted outside an event")

    # Control messages

    async def _acknowledge(self, place: QualifiedOffset) -> None:
        if place.partition < 0:
            return  # of an event that no stream brought: nobody waits for it, as with Nuclio
        topic = _json.to_utf8(place.topic)
        if not 0 < len(topic) <= _MAX_TOPIC:
            raise ValueError(f"a topic of {len(topic)} bytes, 1 to {_MAX_TOPIC} expected")
        if place.partition >= 1 << 31 or not 0 <= place.offset < 1 << 63:
            raise ValueError(f"{place} is no place in a stream")
        self.control.send("acknowledge", topic=topic, shard=place.partition, offset=place.offset)

    def on_control(self, message: Optional[tuple[str, dict[str, Any]]]) -> None:
        """What Control.read() gave. Sets draining and terminating; the data plane calls
        drained() when nothing runs any more."""
        kind = message[0] if message is not None else "terminate"
        if kind == "drain" and not self.draining:
            self.draining = self._drain_asked = True
            self._call_back(self.platform._drain_callback)
        elif kind == "resume":
            self.draining = self._drain_asked = False
        elif kind == "terminate" and not self.terminating:
            self.terminating = True
            if message is not None:
                self._call_back(self.platform._termination_callback)

    def drained(self) -> None:
        """Nothing runs; tells the processor, if it asked."""
        if self._drain_asked:
            self._drain_asked = False
            self._metrics.flush()
            self.control.send("drained")

    def end(self) -> None:
        """The loop is over; the last words."""
        self._metrics.flush()

    def _call_back(self, callback: Optional[Callable[[], Any]]) -> None:
        if callback is None:
            return
        try:
            output = callback()
            if hasattr(output, "__await__"):
                if self.loop is not None and self.loop.is_running():
                    self.pending_callback = self.loop.create_task(_await(output))
                else:
                    self.run_awaitable(output)
        except BaseException as exc:
            from stator._worker.results import exception_text

            self.logger.error_with("a callback failed", err=exception_text(exc))

    # Log

    def current(self) -> Optional[Call]:
        """The call that runs here."""
        if self.calls is not None:
            call = self.calls.get()
            if call is not None:
                return call
        return self.call

    def _log(self, level: int, text: str, variables: dict[str, Any]) -> None:
        number = _LEVELS.get(level, 3)
        call = self.current()
        if number < self.log_level and (call is None or number < call.log_level):
            return
        more = _json.encode_variables(variables) if variables else ""
        try:
            self.control.log(call.seq if call is not None else 0, number, text, more)
        except OSError:
            return  # the processor is gone, and the worker soon
        if call is not None:
            call.logged = True

    # Processes that a handler forks

    def _in_child(self) -> None:
        self.forked = True
        self.control.in_child()
        if self.context is not None:
            self.context.metrics._forget()

    def leave_if_forked(self, status: int = 0) -> None:
        """Ends a process that a handler forked and that came back out of it: the answer is the
        parent's."""
        if self.forked:
            try:
                sys.stdout.flush()
            finally:
                os._exit(status)


async def _await(awaitable: Any) -> Any:
    return await awaitable
