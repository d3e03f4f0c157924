"""Logger: messages of a function, with variables."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

# The numbers of the module logging, which is not imported for them.
DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
_LEVELS = {"DEBUG": DEBUG, "INFO": INFO, "WARN": WARNING, "WARNING": WARNING, "ERROR": ERROR,
           "CRITICAL": 50}


class Logger:
    """Writes messages to a sink (in a worker: to the processor) and to the streams that
    set_handler() names. Logging never raises for what it is given to log."""

    def __init__(self, level: Any = DEBUG, name: str = "nuclio_sdk",
                 sink: Optional[Callable[[int, str, dict[str, Any]], None]] = None) -> None:
        self.name = name
        self._level = _level_of(level)
        self._sink = sink
        self._bound: dict[str, Any] = {}
        self._streams: dict[str, tuple[Any, Any]] = {}

    def debug(self, message: Any, *args: Any) -> None:
        """A message, with `args` for its percent signs as in the module logging."""
        self._log(DEBUG, message, args, {})

    def info(self, message: Any, *args: Any) -> None:
        self._log(INFO, message, args, {})

    def warn(self, message: Any, *args: Any) -> None:
        self._log(WARNING, message, args, {})

    warning = warn

    def error(self, message: Any, *args: Any) -> None:
        self._log(ERROR, message, args, {})

    def debug_with(self, message: Any, *args: Any, **kw_args: Any) -> None:
        """A message with variables, which stay apart from its text."""
        self._log(DEBUG, message, args, kw_args)

    def info_with(self, message: Any, *args: Any, **kw_args: Any) -> None:
        self._log(INFO, message, args, kw_args)

    def warn_with(self, message: Any, *args: Any, **kw_args: Any) -> None:
        self._log(WARNING, message, args, kw_args)

    warning_with = warn_with

    def error_with(self, message: Any, *args: Any, **kw_args: Any) -> None:
        self._log(ERROR, message, args, kw_args)

    def set_level(self, level: Any) -> None:
        """The least level that is written: a name, or a number of the module logging."""
        self._level = _level_of(level)

    def bind(self, **kw_args: Any) -> None:
        """Variables that come with every message from now on."""
        self._bound.update(kw_args)

    def set_handler(self, handler_name: str, file: Any, formatter: Any) -> None:
        """Writes messages to a stream too, as the formatter makes them; replaces the stream that
        had the name."""
        self._streams[handler_name] = (file, formatter)

    def _log(self, level: int, message: Any, args: tuple[Any, ...],
             variables: dict[str, Any]) -> None:
        if level < self._level:
            return
        if self._bound:
            variables.update(self._bound)
        text = _format(message, args)
        if self._sink is not None:
            self._sink(level, text, variables)
        for stream, formatter in self._streams.values():
            self._write(stream, formatter, level, text, variables)

    def _write(self, stream: Any, formatter: Any, level: int, text: str,
               variables: dict[str, Any]) -> None:
        import logging

        record = logging.LogRecord(self.name, level, "", 0, text, (), None)
        if variables:
            setattr(record, "with", variables)
        try:
            stream.write(formatter.format(record) + "\n")
            stream.flush()
        except Exception as exc:
            import sys

            sys.stderr.write(f"cannot write a log message: {exc!r}\n")


class RawJSONFormatter:
    """A record as JSON: datetime, level, message, with."""

    def format(self, record: Any) -> str:
        from stator import _json

        head = _json.encode({"datetime": _time(record), "level": record.levelname.lower(),
                             "message": record.getMessage()})
        variables = _json.encode_variables(getattr(record, "with", {}))
        return f'{head[:-1]}, "with": {variables}}}'


class JSONFormatter(RawJSONFormatter):
    """The same behind an "l", as Nuclio's processor reads it."""

    def format(self, record: Any) -> str:
        return "l" + super().format(record)


class HumanReadableFormatter:
    """A record as a line for people."""

    def format(self, record: Any) -> str:
        variables = getattr(record, "with", {})
        more = f": {variables}" if variables else ""
        level = record.levelname.lower()
        return f"Python> {_time(record)} [{level}] {record.getMessage()}{more}"


def _time(record: Any) -> str:
    import time

    seconds = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
    return f"{seconds},{int(record.msecs):03}"


def _format(message: Any, args: tuple[Any, ...]) -> str:
    try:
        text = message if isinstance(message, str) else str(message)
        if not args:
            return text
        # As the module logging: one dict is for %(name)s.
        return text % (args[0] if len(args) == 1 and isinstance(args[0], dict) else args)
    except Exception:
        try:
            return f"{message} {args!r}"
        except Exception as exc:
            return f"a log message that cannot be written: {type(exc).__name__}"


def _level_of(level: Any) -> int:
    if isinstance(level, str):
        try:
            return _LEVELS[level.upper()]
        except KeyError:
            raise ValueError(f"no log level {level!r}; there are {', '.join(_LEVELS)}") from None
    return int(level)
