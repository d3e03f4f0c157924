"""The data plane in pure Python: records over descriptor 4, one system call or two for each.

A handler that makes no coroutine runs on the main thread without a running loop, one event at a
time. Where the handler is asynchronous, or init_context() left tasks behind, everything runs on an
asyncio loop. A handler that does not look asynchronous and gives back a coroutine makes the worker
go over to the loop.
"""

from __future__ import annotations

import os
import select
from _thread import get_ident
from collections import deque
from time import perf_counter_ns

from stator._worker import events, results, wire
from stator._worker.worker import Call, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional

    from stator._worker.results import Reply


_NOT_CALLED: Any = object()


class _Gone(BaseException):
    """The processor has closed the data socket."""


class _Cancelled(Exception):
    """Nobody waits for the stream any more."""


class _Unit:
    """A record to answer: one event, or several of a BATCH."""

    def __init__(self, kind: int, seq: int, record: bytes) -> None:
        self.seq = seq
        self.is_batch = kind == wire.BATCH
        self.records = [record]
        if self.is_batch:
            self.records = [record[offset:offset + length]
                            for ident, offset, length in wire.sections(record)
                            if ident == wire.RECORD]


class Portable:
    """The loop of a worker; run() returns when the worker has to end."""

    def __init__(self, worker: Worker, fd: int = wire.FD_DATA) -> None:
        self.worker = worker
        self._fd = fd
        self._waiting: deque[_Unit] = deque()  # read, not begun
        self._running: dict[int, Call] = {}
        self._tasks: set[Any] = set()
        self._open: set[int] = set()  # numbers of events that are not answered
        self._thread = get_ident()
        worker.send_message = self._send_message  # type: ignore[method-assign]
        os.set_inheritable(fd, False)
        os.set_blocking(fd, True)

    def run(self) -> None:
        worker = self.worker
        is_async = worker.handler.is_async or worker.keeps_loop
        worker.send_ready(worker.max_concurrency if is_async else 1)
        try:
            if is_async or self._run_sync():
                self._run_loop()
        except _Gone:
            pass

    # Records

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            try:
                part = os.read(self._fd, min(size, 1 << 20))
            except OSError:
                raise _Gone from None
            if not part:
                raise _Gone
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _receive(self) -> None:
        """Reads one record and does what it asks; events wait."""
        head = self._read(wire.record_head.size)
        size, header_size, kind, _, seq = wire.record_head.unpack(head)
        if size < max(header_size, wire.record_head.size):
            raise wire.BrokenRecord(f"a record of {size} bytes")
        rest = size - len(head)
        record = head + self._read(rest) if rest else head
        if kind in (wire.EVENT, wire.BATCH):
            self._waiting.append(_Unit(kind, seq, record))
        elif kind == wire.CREDIT:
            call = self._running.get(seq)
            if call is not None:
                call.window += wire.credit_meta.unpack_from(wire.section(record, wire.META))[0]
                self._wake(call)
        elif kind == wire.CANCEL:
            self._cancel(seq)

    def _send(self, record: bytes) -> None:
        data = memoryview(record)
        try:
            while data:
                data = data[os.write(self._fd, data):]
        except OSError:
            raise _Gone from None

    def _cancel(self, seq: int) -> None:
        """A stream ends, what has not begun is answered; what runs goes on."""
        call = self._running.get(seq)
        if call is not None:
            if call.streaming:
                call.cancelled = True
                self._wake(call)
                if call.task is not None:
                    call.task.cancel()
            return
        for unit in self._waiting:
            if unit.seq == seq and not unit.is_batch:
                self._waiting.remove(unit)
                self._send(wire.result(seq, 0, 0, wire.OUTCOME_ERROR, 0, b"", [], b""))
                return

    @staticmethod
    def _wake(call: Call) -> None:
        if call.waiter is not None and not call.waiter.done():
            call.waiter.set_result(None)

    # One unit

    def _begin(self, unit: _Unit) -> tuple[Call, Any]:
        """What the handler gets as its second argument; None: all has been answered."""
        worker = self.worker
        call = Call(unit.seq)
        worker.call = call
        found = []
        for record in unit.records:
            try:
                event = events.decode(worker.source, record)
            except events.UnreadableEvent as exc:
                call.seq = wire.record_head.unpack_from(record)[4]
                worker.logger.error_with("cannot read the event", err=str(exc))
                self._answer(call, call.seq, (500, results.PLAIN, [], str(exc).encode()),
                             wire.OUTCOME_ERROR)
                continue
            found.append(event)
            self._open.add(events.seq(event))
            call.log_level = min(call.log_level, events.log_level(event))
        worker.call = None
        if not found:
            return call, None
        call.seq = events.seq(found[0])
        call.started_ns = perf_counter_ns()
        if not unit.is_batch and not worker.batch:
            return call, found[0]
        found[-1].last_in_batch = True
        return call, found

    def _answer(self, call: Call, seq: int, reply: Reply, outcome: int,
                retry_after_ms: int = 0) -> None:
        status, content_type, headers, body = reply
        flags = wire.LOGGED if call.logged else 0
        self._open.discard(seq)
        self._send(wire.result(seq, flags, _spent(call), outcome, status, content_type, headers,
                               body, retry_after_ms))

    def _answer_failure(self, call: Call, argument: Any, exc: BaseException) -> None:
        """The same 500 for the event, or for each of the batch."""
        if self.worker.forked:
            self.worker.leave_if_forked(1)
        reply, trace = results.failure(exc)
        self.worker.report(exc, trace)
        for event in argument if isinstance(argument, list) else [argument]:
            self._answer(call, events.seq(event), reply, *results.outcome(exc))

    def _replies(self, argument: Any, output: Any) -> list[tuple[int, Reply, int, int]]:
        """(seq, reply, outcome, retry_after_ms) for each event; raises what the output is to blame
        for."""
        if not isinstance(argument, list):
            reply = results.to_reply(output)
            if not results.is_stream(reply[3]) and len(reply[3]) > wire.RECORD_BODY:
                reply = (*reply[:3], _one_piece(reply[3]))
            return [(events.seq(argument), reply, wire.OUTCOME_OK, 0)]
        replies = []
        matched = results.match_batch(output, [event.id for event in argument])
        for event, response in zip(argument, matched):
            outcome, retry = wire.OUTCOME_OK, 0
            try:
                reply = results.to_reply(response)
                if response is None:
                    reply, outcome = results.no_batch_result(event.id), wire.OUTCOME_ERROR
                elif results.is_stream(reply[3]):
                    raise results.WrongResult("the results of a batch cannot be streamed")
            except BaseException as exc:
                reply = results.failure(exc)[0]
                outcome, retry = results.outcome(exc)
            replies.append((events.seq(event), reply, outcome, retry))
        return replies

    def _end_stream(self, call: Call, exc: Optional[BaseException]) -> None:
        if exc is not None and not isinstance(exc, _Cancelled):
            self.worker.report(exc, results.failure(exc)[1])
        flags = wire.STREAMED
        flags |= wire.FAILED if exc is not None else 0
        flags |= wire.LOGGED if call.logged else 0
        outcome = wire.OUTCOME_OK if exc is None else wire.OUTCOME_ERROR
        self._open.discard(call.seq)
        self._send(wire.result(call.seq, flags, _spent(call), outcome, 0, b"", [], b""))

    def _send_piece(self, stream: _Stream, data: memoryview) -> memoryview:
        """Sends as much of it as may leave now, at most one chunk; what is left."""
        call = stream.call
        size = min(len(data), call.window, wire.CHUNK_BYTES)
        head = None
        if not stream.begun:
            head = (_spent(call), *stream.reply[:3])
            stream.begun = True
        call.window -= size
        self._send(wire.chunk(call.seq, data[:size], head))
        return data[size:]

    def _send_message(self, event: Any, name: bytes, topic: Optional[bytes], key: Optional[bytes],
                      headers: Optional[bytes], value: Optional[bytes]) -> None:
        call = self.worker.current()
        if get_ident() != self._thread:
            raise RuntimeError("emit() is for the thread that runs the handler, and only there")
        if event is None and call is None:
            raise RuntimeError("nothing can be emitted outside an event")
        if event is not None and not isinstance(event, events.RecordEvent):
            raise TypeError(f"event: one of this worker's events expected, not "
                            f"{type(event).__name__}")
        seq = events.seq(event) if event is not None else call.seq  # type: ignore[union-attr]
        if seq not in self._open:
            raise RuntimeError("the event was answered already")
        if value is not None and len(value) > wire.RECORD_BODY:
            raise ValueError(f"no room for a message of {len(value)} bytes")
        parts = ((wire.NAME, name), (wire.TOPIC, topic), (wire.KEY, key), (wire.HEADERS, headers),
                 (wire.BODY, value))
        self._send(wire.pack(wire.EMIT, wire.NO_VALUE if value is None else 0, seq,
                             [(ident, part) for ident, part in parts if part is not None]))

    # One event at a time

    def _run_sync(self) -> bool:
        """Serves until the worker has to end, or (true) go over to the loop."""
        worker = self.worker
        control, data = worker.control.fileno(), self._fd
        poll = select.poll()
        poll.register(control, select.POLLIN)
        poll.register(data, select.POLLIN)
        while not worker.terminating:
            ready = dict(poll.poll(0 if self._waiting and not worker.draining else None))
            if control in ready:
                worker.on_control(worker.control.read())
                poll.modify(data, 0 if worker.draining else select.POLLIN)
                if worker.draining:
                    worker.drained()
            elif worker.draining:
                raise _Gone  # a closed socket is all that can be seen
            else:
                if data in ready and not self._waiting:
                    self._receive()
                if self._waiting and not self._serve_sync(self._waiting.popleft()):
                    return True
        return False

    def _serve_sync(self, unit: _Unit) -> bool:
        """False: the handler is asynchronous, a task goes on with the unit."""
        worker = self.worker
        call, argument = self._begin(unit)
        if argument is None:
            return True
        worker.call = call
        self._running[unit.seq] = call
        try:
            output = worker.handler.function(worker.context, argument)
            is_async = hasattr(output, "__await__")
            replies = [] if is_async else self._replies(argument, output)
        except BaseException as exc:
            self._answer_failure(call, argument, exc)
        else:
            if worker.forked:
                worker.leave_if_forked()
            if is_async or hasattr(replies[0][1][3], "__anext__"):
                self._go_async(unit, call, argument, output)
                return False
            if results.is_stream(replies[0][1][3]):
                self._stream_sync(_Stream(call, argument, replies[0][1]))
            else:
                for seq, *answer in replies:
                    self._answer(call, seq, *answer)
        worker.call = None
        del self._running[unit.seq]
        return True

    def _stream_sync(self, stream: _Stream) -> None:
        call, pieces = stream.call, stream.reply[3]
        call.streaming = True
        failure = None
        try:
            for output in pieces:
                data = memoryview(results.piece(output))
                while data:
                    self._wait_window(call)
                    data = self._send_piece(stream, data)
        except _Gone:
            raise
        except BaseException as exc:
            failure = exc
        self._finish(stream, failure)
        try:
            pieces.close()
        except BaseException as exc:
            self.worker.report(exc, results.failure(exc)[1])

    def _wait_window(self, call: Call) -> None:
        """Until some bytes may leave. Events that come in the meantime wait."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while not call.cancelled and (call.window == 0 or poll.poll(0)):
            self._receive()
        if call.cancelled:
            raise _Cancelled

    def _finish(self, stream: _Stream, failure: Optional[BaseException]) -> None:
        if self.worker.forked:
            self.worker.leave_if_forked(1 if failure is not None else 0)
        call = stream.call
        if stream.begun or isinstance(failure, _Cancelled):
            self._end_stream(call, failure)
        elif failure is not None:
            self._answer_failure(call, stream.argument, failure)
        else:  # no piece at all
            self._answer(call, call.seq, (*stream.reply[:3], b""), wire.OUTCOME_OK)

    # On an asyncio loop

    def _go_async(self, unit: _Unit, call: Call, argument: Any, output: Any) -> None:
        """From now on there is a loop; the unit goes on as its first task."""
        worker = self.worker
        worker.handler.is_async = True
        worker.call = None
        worker.make_loop()
        self._start_task(unit, call, argument, output)
        if worker.max_concurrency > 1:
            self._send(wire.more_events(worker.max_concurrency - 1))

    def _run_loop(self) -> None:
        worker = self.worker
        loop = worker.make_loop()
        for fd, ready in ((worker.control.fileno(), self._on_control), (self._fd, self._on_data)):
            loop.add_reader(fd, ready)
            os.set_blocking(fd, True)  # uvloop has changed it; records are read and written whole
        while not worker.terminating:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as exc:  # of a background task
                worker.report(exc, results.failure(exc)[1])
        loop.run_until_complete(_settle(worker))

    def _on_control(self) -> None:
        worker = self.worker
        worker.on_control(worker.control.read())
        if worker.terminating:
            worker.loop.stop()
        elif worker.draining:
            self._check_drained()
        else:
            self._start_waiting()

    def _on_data(self) -> None:
        try:
            self._receive()
            self._start_waiting()
        except _Gone:
            self.worker.terminating = True
            self.worker.loop.stop()

    def _start_waiting(self) -> None:
        worker = self.worker
        while (self._waiting and not worker.draining
               and len(self._running) < worker.max_concurrency):
            unit = self._waiting.popleft()
            call, argument = self._begin(unit)
            if argument is not None:
                self._start_task(unit, call, argument, _NOT_CALLED)

    def _start_task(self, unit: _Unit, call: Call, argument: Any, output: Any) -> None:
        self._running[unit.seq] = call
        task = self.worker.loop.create_task(self._serve_async(unit, call, argument, output))
        call.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve_async(self, unit: _Unit, call: Call, argument: Any, output: Any) -> None:
        worker = self.worker
        worker.calls.set(call)
        try:
            try:
                if output is _NOT_CALLED:
                    output = worker.handler.function(worker.context, argument)
                if hasattr(output, "__await__"):
                    output = await output
                replies = self._replies(argument, output)
            except BaseException as exc:
                self._answer_failure(call, argument, exc)
                return
            if worker.forked:
                worker.leave_if_forked()
            if results.is_stream(replies[0][1][3]):
                await self._stream_async(_Stream(call, argument, replies[0][1]))
            else:
                for seq, *answer in replies:
                    self._answer(call, seq, *answer)
        except _Gone:
            worker.terminating = True
            worker.loop.stop()
        finally:
            del self._running[unit.seq]
            if worker.draining:
                self._check_drained()
            else:
                worker.loop.call_soon(self._start_waiting)

    def _check_drained(self) -> None:
        if not self._running:
            self.worker.drained()

    async def _stream_async(self, stream: _Stream) -> None:
        call = stream.call
        call.streaming = True
        source = stream.reply[3]
        is_async = hasattr(source, "__anext__")
        failure = None
        try:
            async for output in source if is_async else _turns(source):
                data = memoryview(results.piece(output))
                while data:
                    while call.window == 0 and not call.cancelled:
                        call.waiter = self.worker.loop.create_future()
                        await call.waiter
                    if call.cancelled:
                        raise _Cancelled
                    data = self._send_piece(stream, data)
        except _Gone:
            raise
        except BaseException as exc:
            failure = _Cancelled() if call.cancelled else exc
        call.streaming = False
        self._finish(stream, failure)
        try:
            if is_async:
                await source.aclose()
            else:
                source.close()
        except BaseException as exc:
            self.worker.report(exc, results.failure(exc)[1])


class _Stream:
    """A streamed reply on its way."""

    def __init__(self, call: Call, argument: Any, reply: Reply) -> None:
        self.call = call
        self.argument = argument
        self.reply = reply
        self.begun = False


async def _turns(pieces: Any) -> Any:
    """A plain generator's pieces; other tasks run between them."""
    import asyncio

    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


async def _settle(worker: Worker) -> None:
    """Lets a termination callback that is a coroutine end."""
    if worker.pending_callback is not None:
        await worker.pending_callback


def _one_piece(body: bytes) -> Iterator[bytes]:
    yield body


def _spent(call: Call) -> int:
    return perf_counter_ns() - call.started_ns if call.started_ns else 0
