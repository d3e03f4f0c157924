"""A platform that calls handlers and records calls of other functions."""

from __future__ import annotations

import logging
import sys
import unittest.mock
from typing import Any, Callable

from stator.context import Context
from stator.event import Event
from stator.logger import HumanReadableFormatter, Logger


class Platform:
    """call_handler(handler, event) runs init_context() of the handler's module before the first
    event. call_function() asks the mock `call_function_mock`."""

    def __init__(self) -> None:
        self.kind = "test"
        self.call_function_mock = unittest.mock.MagicMock()
        self._logger = Logger(logging.DEBUG, "mock_platform")
        self._logger.set_handler("default", sys.stdout, HumanReadableFormatter())
        self._contexts: dict[Callable[..., Any], Context] = {}
        self.context = self._make_context()

    def call_handler(self, handler: Callable[..., Any], event: Event) -> Any:
        return handler(self._context_of(handler), event)

    def call_handler_with_context_mutation(self, handler: Callable[..., Any], event: Event,
                                           context_mutator: Callable[[Context], Context]) -> Any:
        return handler(context_mutator(self._context_of(handler)), event)

    def call_function(self, name: str, event: Event, node: Any = None, timeout: Any = None,
                      service_name_override: Any = None) -> Any:
        return self.call_function_mock(name, event, node, timeout, service_name_override)

    def get_call_function_call_args(self, index: int) -> Any:
        """The arguments of a call: name, event, node, timeout, service_name_override."""
        return self.call_function_mock.call_args_list[index][0]

    def _make_context(self) -> Context:
        return Context(self._logger, self)  # type: ignore[arg-type]

    def _context_of(self, handler: Callable[..., Any]) -> Context:
        if handler not in self._contexts:
            context = self._contexts[handler] = self._make_context()
            init_context = getattr(sys.modules[handler.__module__], "init_context", None)
            if init_context is not None:
                init_context(context)
        return self._contexts[handler]
