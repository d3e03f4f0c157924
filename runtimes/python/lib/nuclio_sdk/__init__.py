"""The names of Nuclio's SDK for functions that import them; what they are is in `stator`."""

from nuclio_sdk.exceptions import ExceptionWithResponse
from stator.context import Context
from stator.event import Event, TriggerInfo
from stator.logger import Logger
from stator.platform import Platform, QualifiedOffset
from stator.response import Response

__all__ = ["Context", "Event", "ExceptionWithResponse", "Logger", "Platform", "QualifiedOffset",
           "Response", "TriggerInfo"]
