"""A worker process that is nothing but the extension: native_worker.py FILE [JSON options]. The
file's handler(context, event) is called. Its hooks are as small as can be; what the real ones do is
tested elsewhere. The control socket takes one byte: d drain, s stop."""

import asyncio
import importlib.util
import inspect
import json
import os
import sys
import traceback
from types import SimpleNamespace
from typing import Any

import stator

stator.__path__ = [os.environ["NATIVE_FOLDER"], *stator.__path__]

from stator import _native  # noqa: E402


class Event:
    """What events say that they are."""

    def to_json(self) -> str:
        return json.dumps({"path": self.path, "id": self.id})  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return "Event()"


def map_result(result: Any) -> tuple:
    if isinstance(result, SimpleNamespace):
        return (result.status, result.type, result.headers, result.body)
    return (200, "text/plain", None, f"mapped {result!r}")


def map_error(exc: BaseException, event: Any) -> tuple:
    text = "".join(traceback.format_exception(exc))
    if os.environ.get("SHOW_ERRORS"):
        sys.stderr.write(text)
    return (500, "text/plain", None, f"{type(exc).__name__}: {exc}", 1)


def map_batch(result: Any, events: list) -> list:
    return [(200, "text/plain", {"Event": event.id[-2:]}, str(part))
            for part, event in zip(result, events)]


def open_cloud_event(event: Any) -> None:
    event.type = "from the cloud"


def control() -> int:
    message = os.read(3, 1)
    return {b"d": 1, b"": 2, b"s": 2}.get(message, 0)


def main() -> None:
    spec = importlib.util.spec_from_file_location("handler", sys.argv[1])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    options.setdefault("is_async", inspect.iscoroutinefunction(module.handler)
                       or inspect.isasyncgenfunction(module.handler))
    hooks = SimpleNamespace(
        map_result=map_result, map_error=map_error, map_batch=map_batch, encode_json=json.dumps,
        parse_body=lambda raw, kind: json.loads(raw), open_cloud_event=open_cloud_event,
        piece=lambda value: json.dumps(value).encode(), control=control, drained=lambda: os.write(3, b"D"), started=lambda: os.write(3, b"R"))
    context = SimpleNamespace(native=_native)
    hooks.new_loop = asyncio.new_event_loop
    _native.run(module.handler, context, hooks, triggers=["the trigger"], event_class=Event,
                **options)


if __name__ == "__main__":
    main()
