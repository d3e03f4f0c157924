"""`python3 -u -m stator._worker`: started by the processor, not by hand."""

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


def main() -> int:
    try:
        worker = Worker(Control(wire.FD_CONTROL))
    except OSError:
        sys.stderr.write("stator._worker is started by the processor (stator run)\n")
        return 2
    native, reason = _native()
    for fd in range(wire.FD_DATA, wire.FD_END):
        try:
            os.set_inheritable(fd, False)
            if native is None and fd != wire.FD_DATA:
                os.close(fd)
        except OSError:
            pass  # a processor that gives no shared memory

    from stator._worker.loading import LoadError

    try:
        worker.start(shared_memory=native is not None)
    except LoadError as exc:
        try:
            worker.control.send("failed", text=str(exc))
        except OSError:
            pass
        return 1
    if reason:
        worker.warn("The add-on stator._native is missing for this Python, so the portable worker "
                    "takes its place: the function runs several times slower. "
                    "'stator python build' makes the add-on.",
                    python=sys.executable, version=sys.version.split()[0], reason=reason)
    if native is not None:
        native.run(worker)
    else:
        from stator._worker.portable import Portable

        Portable(worker).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
