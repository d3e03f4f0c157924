"""Context: what a handler has for its whole life."""

from __future__ import annotations

from stator._emit import EmitError
from stator.logger import Logger
from stator.metrics import Metrics
from stator.platform import Platform
from stator.response import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Type

    from stator._emit import Headers, Text
    from stator.event import Event, TriggerInfo


class UserData:
    """A place for a handler's own attributes."""


class Context:
    """Given to `init_context(context)` once and to the handler with each event.

    logger          Logger
    platform        Platform: call_function(), callbacks
    user_data       attributes of your own, for instance a model that init_context() loads
    Response        the class
    worker_id       text, "0" for a function's first worker
    emit()          publishes a message to an output
    metrics         Metrics: count(), gauge()
    trigger         TriggerInfo of the trigger that the worker belongs to; trigger_name is its name
    """

    platform: Platform
    user_data: Any
    Response: Type[Response]
    worker_id: Optional[str]
    trigger: Optional[TriggerInfo]
    trigger_name: Optional[str]

    def __init__(self, logger: Optional[Logger] = None, platform: Optional[Platform] = None,
                 worker_id: Optional[str] = None, trigger: Optional[TriggerInfo] = None,
                 logger_per_async_task: bool = False) -> None:
        self._shared_logger = Logger() if logger is None else logger
        self._task_logger: Any = None
        if logger_per_async_task:
            import contextvars

            self._task_logger = contextvars.ContextVar("logger", default=None)
        self.metrics = Metrics()
        self.platform = platform or Platform("test")
        self.user_data = UserData()
        self.Response = Response
        self.worker_id = worker_id
        self.trigger = trigger
        self.trigger_name = trigger.name if trigger is not None else None
        self._emit: Optional[Callable[..., None]] = None

    def emit(self, output: str, value: Any, key: Optional[Text] = None,
             headers: Optional[Headers] = None, *, topic: Optional[str] = None,
             event: Optional[Event] = None) -> None:
        """Publishes a message to an output of spec.stator.outputs, and returns at once.

        value is bytes, text, None (a tombstone) or what becomes JSON. The message belongs to the
        event that is being handled, or to `event`, which handlers of batches must name: its answer
        waits until the output has confirmed the message, and is an error if it does not. topic:
        another one than the output's own. Raises EmitError: no such output, too large, not in an
        event, not in the thread of the handler; TypeError for what is neither text nor bytes."""
        if self._emit is None:
            raise EmitError("nothing can be emitted here")
        self._emit(output, value, key, headers, topic, event)

    @property
    def logger(self) -> Logger:
        """The logger. With logger_per_async_task, one that a task has set is the task's alone."""
        if self._task_logger is not None:
            return self._task_logger.get() or self._shared_logger
        return self._shared_logger

    @logger.setter
    def logger(self, logger: Logger) -> None:
        if self._task_logger is not None:
            self._task_logger.set(logger)
        else:
            self._shared_logger = logger
