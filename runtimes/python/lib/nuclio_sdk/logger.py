"""The logger and its formatters."""

from stator.logger import HumanReadableFormatter, JSONFormatter, Logger, RawJSONFormatter

__all__ = ["HumanReadableFormatter", "JSONFormatter", "Logger", "RawJSONFormatter"]
