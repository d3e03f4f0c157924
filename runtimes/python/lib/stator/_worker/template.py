"""The template: a process that has imported the handler and forks workers, so that they share
its memory and start without the import (docs/wire.md)."""

from __future__ import annotations

import _socket
import gc
import os
import struct
import sys

from stator._worker import loading, wire
from stator._worker.control import Control
from stator._worker.worker import language

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

# Where a worker has the descriptors that come with Fork, in their order.
_PLACES = (wire.FD_CONTROL, wire.FD_DATA, wire.FD_MEMORY, wire.FD_WAKE_WORKER,
           wire.FD_WAKE_PROCESSOR, 1, 2)


class _Control(Control):
    """A control socket that takes descriptors as well."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._socket: Optional[_socket.socket] = _socket.socket(fileno=fd)
        self.descriptors: list[int] = []

    def forget(self) -> None:
        """Does not close the descriptor when it goes."""
        if self._socket is not None:
            self._socket.detach()
            self._socket = None

    def _read(self, size: int) -> Optional[bytes]:
        data = b""
        assert self._socket is not None
        while len(data) < size:
            more, ancillary, _, _ = self._socket.recvmsg(size - len(data), _socket.CMSG_SPACE(256))
            for level, kind, content in ancillary:
                if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                    self.descriptors += [fd for fd, in struct.iter_unpack("i", content)]
            if not more:
                return None
            data += more
        return data


def serve(has_native: bool) -> loading.Handler:
    """Serves until it is not needed any more, then exits. Returns in each worker, with the handler;
    the descriptors are in their places. Raises loading.LoadError."""
    for fd in range(wire.FD_DATA, wire.FD_END):
        os.dup2(0, fd, inheritable=False)  # those of workers must not come to lie here
    control = _Control(wire.FD_CONTROL)
    try:
        return _serve(control, has_native)
    finally:
        control.forget()


def _serve(control: _Control, has_native: bool) -> loading.Handler:
    control.send("hello", protocol=wire.PROTOCOL, language=language(), template=True)
    configuration = control.configuration()
    if not has_native:
        control.send("forked", text="the add-on stator._native is not there or not wanted")
        handler = None
    else:
        handler = loading.load(configuration["handler"], configuration["code_dir"])
        _prepare(handler)
        control.send("ready")
    while True:
        message = control.read()
        if message is None or message[0] == "terminate":
            os._exit(0)  # what the module does at its end is for the workers to do, each at its own
        if message[0] == "fork" and handler is not None and _fork(control, message[1]["worker"]):
            return handler


def _prepare(handler: loading.Handler) -> None:
    """Takes in what every worker needs, and keeps the garbage collector off all that is there, or
    it would write to each object and so end the sharing."""
    from stator._worker import native  # noqa: F401

    if handler.is_async:
        import asyncio  # noqa: F401

        try:
            import uvloop  # noqa: F401
        except ImportError:
            pass
    gc.freeze()


def _fork(control: _Control, number: int) -> bool:
    """True in the worker."""
    from stator import _native

    descriptors, control.descriptors = control.descriptors, []
    go = -1
    try:
        why = _obstacle()
        if why or len(descriptors) != len(_PLACES):
            control.send("forked", worker=number, text=why or "its descriptors did not arrive")
            return False
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        try:
            pid, go = _native.fork_worker()
        except OSError as exc:  # no memory, too many processes
            control.send("forked", worker=number, text=f"fork: {exc.strerror}", temporary=True)
            return False
        if pid == 0:
            for fd, place in zip(descriptors, _PLACES):
                os.dup2(fd, place, inheritable=place < wire.FD_CONTROL)
            return True
        control.send("forked", worker=number, pid=pid)
        os.write(go, b"g")
        os.read(go, 1)
        return False
    finally:
        for fd in [*descriptors, go]:
            if fd >= 0:
                os.close(fd)


def _obstacle() -> str:
    """Why a fork is not safe; empty: it is."""
    threads = len(os.listdir("/proc/self/task")) - 1
    if not threads:
        return ""
    return (f"importing the handler started {threads} thread{'s' if threads > 1 else ''}, which a "
            "fork does not copy; start threads in init_context() (for numpy: set "
            "OPENBLAS_NUM_THREADS=1 in spec.env), or take prefork away")


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except Exception:
        pass  # the handler's own object, or none
