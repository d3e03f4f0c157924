"""Stator for Python handlers.

    def handler(context, event):
        context.logger.info_with("got it", size=event.size)
        return "Hello, " + event.body.decode()

A handler needs to import nothing. The classes are here for annotations, and for unit tests, which
need no processor: see stator.testing.
"""

from stator._emit import EmitError
from stator.context import Context
from stator.event import Event, TriggerInfo
from stator.logger import Logger
from stator.metrics import Metrics
from stator.outcomes import Reject, Retry
from stator.platform import Platform, QualifiedOffset
from stator.response import Response

__all__ = ["Context", "EmitError", "Event", "Logger", "Metrics", "Platform", "QualifiedOffset",
           "Reject", "Response", "Retry", "TriggerInfo"]
