"""`python3 -u -m stator._worker [--template]`: started by the processor, not by hand."""

from __future__ import annotations

import os
import sys

from stator._worker import wire
from stator._worker.control import Control
from stator._worker.worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional


def _native() -> tuple[Optional[Any], str]:
    """The add-on, or why there is none; no reason where none was asked for."""
    if os.environ.get("STATOR_PYTHON_PORTABLE") == "1":
        return None, ""
    try:
        from stator._worker import native
    except ImportError as exc:
        return _cached(str(exc))
    return native, ""


def _cached(reason: str) -> tuple[Optional[Any], str]:
    """The same from where `stator python build` puts it, if it can't beside the packages."""
    import stator
    from stator._worker import build

    if not build.cache().is_dir():
        return None, reason
    stator.__path__.append(str(build.cache()))
    try:
        from stator._worker import native
    except ImportError:
        return None, reason
    return native, ""


def _failed(control: Control, exc: BaseException) -> int:
    try:
        control.send("failed", text=str(exc))
    except OSError:
        pass
    return 1


def main() -> int:
    try:
        control = Control(wire.FD_CONTROL)
    except OSError:
        sys.stderr.write("stator._worker is started by the processor (stator run)\n")
        return 2
    native, reason = _native()

    from stator._worker.loading import LoadError

    handler = None
    if "--template" in sys.argv[1:]:
        del sys.argv[1:]  # not for the handler's eyes
        from stator._worker import template

        try:
            handler = template.serve(native is not None)
        except LoadError as exc:
            return _failed(control, exc)
        control = Control(wire.FD_CONTROL)
    worker = Worker(control)
    for fd in range(wire.FD_DATA, wire.FD_END):
        try:
            os.set_inheritable(fd, False)
            if native is None and fd != wire.FD_DATA:
                os.close(fd)
        except OSError:
            pass  # a processor that gives no shared memory
    try:
        worker.start(native is not None, handler)
    except LoadError as exc:
        return _failed(control, exc)
    if reason and worker.configuration["first"]:
        worker.warn("The add-on stator._native is missing for this Python, so the portable worker "
                    "takes its place: the function runs several times slower. "
                    "'stator python build' makes the add-on.",
                    python=sys.executable, version=sys.version.split()[0], reason=reason)
    if native is not None:
        native.run(worker)
    else:
        from stator._worker.portable import Portable

        Portable(worker).run()
    worker.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
