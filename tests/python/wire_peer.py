"""The processor's end of the worker wire, faked for tests: it starts a real worker process and
speaks the protocol of docs/wire.md with code of its own. Records go over a socket pair, or with
native=True through the shared memory of ring_peer.py to the extension.

What the real processor does beyond that (limits, restarts) is not here.
"""

import os
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from protobuf import fields, number, text
from ring_peer import RingPeer

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "runtimes" / "python" / "lib"
BUILT = Path(os.environ.get("STATOR_BUILD", ROOT / "build")) / "python"
HAS_NATIVE = any((BUILT / "stator").glob("_native*.so"))
INLINE_BODY = 65536
SLOW = 5 if os.environ.get("STATOR_SANITIZER") else 1
PATIENCE = 30 * SLOW  # seconds until a test gives up

EVENT, BATCH, RESULT, CHUNK, CANCEL, CREDIT = 1, 2, 3, 4, 5, 6
STREAMED, LOGGED, FAILED, HEAD, NO_VALUE = 1, 2, 4, 8, 16
META, BODY, BODY_REF, HEADERS, CONTENT_TYPE, METHOD, PATH = 1, 2, 3, 4, 5, 6, 7
TARGET, QUERY, SCHEME, KEY, TOPIC, PEER, TRACE_PARENT, RECORD = 8, 9, 10, 11, 12, 13, 14, 15
LEVELS = ("debug", "info", "warn", "error")


# records

def record(kind, seq, sections, flags=0):
    sections = [(ident, content) for ident, content in sections if content is not None]
    header_size = 16 + 12 * len(sections)
    heads, content_bytes = b"", b""
    for ident, content in sections:
        if ident == RECORD:
            content_bytes += bytes(-(header_size + len(content_bytes)) % 16)
        heads += struct.pack("<HHII", ident, 0, header_size + len(content_bytes), len(content))
        content_bytes += content
    size = header_size + len(content_bytes)
    size += -size % 16
    return (struct.pack("<IHBBQ", size, header_size, kind, flags, seq) + heads
            + content_bytes).ljust(size, b"\0")


def pack_headers(pairs):
    pairs = [(to_bytes(name), to_bytes(value)) for name, value in pairs]
    out = struct.pack("<I", len(pairs))
    for name, value in pairs:
        out += struct.pack("<II", len(name), len(value))
    return out + b"".join(name + value for name, value in pairs)


def unpack_headers(data):
    if not data:
        return []
    (count,) = struct.unpack_from("<I", data)
    lengths = struct.unpack_from(f"<{2 * count}I", data, 4)
    at, parts = 4 + 8 * count, []
    for length in lengths:
        parts.append(data[at:at + length].decode())
        at += length
    assert at == len(data)
    return list(zip(parts[::2], parts[1::2]))


def to_bytes(value):
    return value if isinstance(value, bytes) else value.encode()


@dataclass
class Log:
    seq: int
    level: str
    message: str
    variables: str


@dataclass
class Answer:
    """What came for an event."""
    seq: int
    status: int = 0
    outcome: int = 0
    content_type: str = ""
    headers: list = field(default_factory=list)
    body: bytes = b""
    flags: int = 0
    chunks: list = field(default_factory=list)
    duration_ns: int = 0
    retry_after_ms: int = 0
    done: bool = False

    @property
    def text(self):
        return self.body.decode()


class WorkerEnded(Exception):
    pass


class Peer:
    """A started worker process. Use it in a with statement. path: another folder with modules."""

    def __init__(self, handler, code_dir="", python=None, env=None, command=None, batch=False,
                 max_concurrency=1, trigger=("http", "web"), triggers=None, log_level=0,
                 platform="local", worker=0, namespace="team", wait=True, native=False,
                 path=None):
        self.answers, self.logs, self.ready, self.failed = {}, [], None, None
        self.hello, self.drained, self.exit_status, self._credits = None, 0, None, 0
        self._seq = 0
        self.ids = {}
        self.acknowledged = []  # (topic, shard, offset)
        self.metrics = []  # (name, value, is a gauge, dropped)
        self.began = time.monotonic()
        self._ring = RingPeer() if native else None
        if native:
            self._ring.credit_automatically = False
        self._pool_at = 0
        folders = [str(BUILT if native else LIBRARY)] + ([path] if path else [])
        self._start(python or sys.executable, command,
                    {"PYTHONPATH": os.pathsep.join(folders), **(env or {})})
        pool = text(1, trigger[0]) + text(2, trigger[1])
        known = b"".join(text(9, text(1, kind) + text(2, name))
                         for kind, name in triggers or [trigger])
        self._configure = text(1, number(1, worker) + text(2, "function") + text(3, namespace)
                               + number(4, 1) + text(6, handler) + text(7, str(code_dir))
                               + text(8, platform) + known + text(10, pool)
                               + number(11, max_concurrency) + number(13, log_level)
                               + number(14, batch) + number(19, 1))
        try:
            self.wait(lambda: self.hello is not None)
            self.say(self._configure)
            if wait:
                self.wait(lambda: self.ready is not None or self.failed is not None)
        except BaseException:
            self.close()
            raise

    def _start(self, python, command, env):
        self.control, far_control = socket.socketpair()
        self.data, far_data = socket.socketpair()
        self._output = tempfile.TemporaryFile()
        environment = {"PATH": os.environ.get("PATH", "/usr/bin"),
                       "PYTHONDONTWRITEBYTECODE": "1",
                       "STATOR_PYTHON_PORTABLE": "0" if self._ring is not None else "1",
                       "PYTHONUNBUFFERED": "1", **env}
        environment = {name: value for name, value in environment.items() if value is not None}
        far = [os.dup(fd) for fd in (far_control.fileno(), far_data.fileno())]
        high = [_high(fd) for fd in (*far, self._output.fileno())]
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                   (os.POSIX_SPAWN_DUP2, high[2], 1), (os.POSIX_SPAWN_DUP2, high[2], 2),
                   (os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4)]
        if self._ring is not None:
            for place, fd in self._ring.worker_fds().items():
                if place > 4:
                    high.append(_high(fd))
                    actions.append((os.POSIX_SPAWN_DUP2, high[-1], place))
        command = command or [python, "-u", "-m", "stator._worker"]
        try:
            self.pid = os.posix_spawn(command[0], command, environment, file_actions=actions,
                                      setsid=True)
        finally:
            for fd in far + high:
                os.close(fd)
            far_control.close()
            far_data.close()
        self._buffers = {self.control: b"", self.data: b""}
        self._ended = {self.data} if self._ring is not None else set()
        self.control.setblocking(False)
        self.data.setblocking(False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the sockets, and kills what does not end of itself."""
        self.control.close()
        self.data.close()
        if self.exit_status is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._reap(0)
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        self._output.close()

    def _reap(self, flags):
        pid, status = os.waitpid(self.pid, flags)
        if pid:
            self.exit_status = os.waitstatus_to_exitcode(status)

    @property
    def output(self):
        """What it has printed."""
        self._output.seek(0)
        return self._output.read().decode("utf-8", "replace")

    # What comes

    def wait(self, condition, patience=PATIENCE):
        """Reads until the condition holds."""
        end = time.monotonic() + patience
        while not condition():
            self._read(0.02)
            if condition():
                return
            if len(self._ended) == 2:
                raise WorkerEnded(f"the worker has ended: {self.failed or self.output}")
            if time.monotonic() > end:
                raise TimeoutError(f"nothing came in {patience} s; output: {self.output}")

    def pump(self, seconds):
        """Reads what comes for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read(0.01)

    def _read(self, seconds):
        open_ones = [one for one in (self.control, self.data) if one not in self._ended]
        if not open_ones:
            time.sleep(seconds)
        ring = []
        if self._ring is not None:
            ring = [self._ring.wake_peer]
            self._ring.sleep()
        for ready in select.select(open_ones + ring, [], [], seconds)[0] if open_ones else []:
            if ready in ring:
                os.eventfd_read(ready)
                continue
            try:
                more = ready.recv(1 << 20)
            except ConnectionResetError:
                more = b""
            if not more:
                self._ended.add(ready)
            self._buffers[ready] += more
        self._take_messages()
        self._take_records()
        if self._ring is not None:
            self._take_ring()

    def _take_messages(self):
        data = self._buffers[self.control]
        while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "little"):
            end = 4 + int.from_bytes(data[:4], "little")
            self._message(data[4:end])
            data = data[end:]
        self._buffers[self.control] = data

    def _message(self, data):
        ((kind, content),) = fields(data)
        values = dict(fields(content))
        if kind == 1:
            self.hello = {"protocol": values.get(1, 0), "language": values[2].decode(),
                          "shared_memory": bool(values.get(3, 0))}
        elif kind == 2:
            self.ready = {"credits": values.get(1, 0), "batch": bool(values.get(2, 0))}
            self._credits += values.get(1, 0)
            self.ready_after = time.monotonic() - self.began
        elif kind == 3:
            self.failed = values.get(1, b"").decode()
        elif kind == 4:
            self.logs.append(Log(values.get(1, 0), LEVELS[values.get(2, 0)],
                                 values.get(3, b"").decode(), values.get(4, b"").decode()))
        elif kind == 5:
            value, = struct.unpack("<d", values.get(2, bytes(8)))
            self.metrics.append((values[1].decode(), value, bool(values.get(3, 0)),
                                 values.get(4, 0)))
        elif kind == 6:
            self.drained += 1
        elif kind == 8:
            self.acknowledged.append((values[1].decode(), values.get(2, 0), values.get(3, 0)))
        else:
            raise AssertionError(f"control message {kind}")

    def _take_ring(self):
        records = []
        while (found := self._ring.poll()) is not None:
            records.append(found)
        if records and self.control not in self._ended:  # log messages were written before
            try:
                self._buffers[self.control] += self.control.recv(1 << 20)
            except (BlockingIOError, ConnectionResetError):
                pass
            self._take_messages()
        for found in records:
            self._record(found.kind, found.flags, found.seq, found.sections)

    def _take_records(self):
        data = self._buffers[self.data]
        while len(data) >= 16:
            size, header_size, kind, flags, seq = struct.unpack_from("<IHBBQ", data)
            assert size % 16 == 0 and header_size <= size and size >= 16
            if len(data) < size:
                break
            sections = {}
            for ident, _, offset, length in struct.iter_unpack("<HHII", data[16:header_size]):
                assert offset >= header_size and offset + length <= size
                sections[ident] = data[offset:offset + length]
            data = data[size:]
            self._record(kind, flags, seq, sections)
        self._buffers[self.data] = data

    def _record(self, kind, flags, seq, sections):
        if kind == CREDIT:
            assert seq == 0
            self._credits += struct.unpack("<II", sections[META])[0]
            return
        answer = self.answers[seq]
        assert not answer.done, "a second result"
        if kind == CHUNK:
            assert bool(flags & HEAD) == (not answer.chunks)
            answer.chunks.append(sections[BODY])
            answer.body += sections[BODY]
        else:
            assert kind == RESULT
            assert bool(flags & STREAMED) == bool(answer.chunks) or not sections.get(BODY)
            answer.flags = flags
            answer.done = True
        if kind == RESULT or flags & HEAD:
            duration, retry, status, outcome = struct.unpack_from("<QIHB", sections[META])
            if not flags & STREAMED:
                answer.status = status
                answer.content_type = sections.get(CONTENT_TYPE, b"").decode()
                answer.headers = unpack_headers(sections.get(HEADERS, b""))
            answer.outcome, answer.duration_ns = outcome, duration
            answer.retry_after_ms = retry
            if kind == RESULT and not flags & STREAMED:
                answer.body = sections.get(BODY, b"")

    # What goes out

    def say(self, message):
        self.control.setblocking(True)
        self.control.sendall(struct.pack("<I", len(message)) + message)
        self.control.setblocking(False)

    def drain(self):
        self.say(text(2, b""))

    def terminate(self):
        self.say(text(3, b""))

    def resume(self):
        self.say(text(4, b""))

    def write(self, data):
        if self._ring is not None:
            self._ring.write(data)
            return
        view = memoryview(data)
        while view:
            try:
                view = view[self.data.send(view):]
            except BlockingIOError:
                self._read(0.01)

    def event_record(self, body=None, method="GET", path="/", headers=(), content_type=None,
                     query=None, log_level=255, http_version=11, trigger=0, shard=-1, shards=0,
                     offset=0, lo=0, timestamp_ns=1_700_000_000_500_000_000, topic=None, key=None,
                     attempt=1, tombstone=False):
        self._seq += 1
        seq = self._seq
        ident = uuid.uuid4()
        self.ids[seq] = str(ident)
        meta = struct.pack("<16sQQQQiIIHHHB5x", ident.bytes, timestamp_ns, offset, lo, 0, shard,
                           shards, attempt, http_version, 4711, trigger, log_level)
        headers = list(headers)
        if content_type is not None:
            headers.append(("content-type", content_type))
        self.answers[seq] = Answer(seq)
        return seq, record(EVENT, seq, [
            (META, meta), (METHOD, to_bytes(method)), (PATH, to_bytes(path)),
            (QUERY, to_bytes(query) if query is not None else None),
            (CONTENT_TYPE, to_bytes(content_type) if content_type is not None else None),
            (HEADERS, pack_headers(headers) if headers else None),
            self._body(to_bytes(body)) if body else (BODY, None), (PEER, b"127.0.0.1"),
            (TOPIC, to_bytes(topic) if topic else None), (KEY, to_bytes(key) if key else None)],
            flags=NO_VALUE if tombstone else 0)

    def _body(self, body):
        """In the record, or in the pool: one after the other, and from its begin again."""
        if self._ring is None or len(body) <= INLINE_BODY:
            return BODY, body
        if self._pool_at + len(body) > self._ring.pool_size:
            self._pool_at = 0
        section = self._ring.put_body(self._pool_at, body)
        self._pool_at += len(body)
        return section

    def send(self, body=None, **kw):
        """Sends an event; its number."""
        seq, data = self.event_record(body, **kw)
        self.write(data)
        return seq

    def send_batch(self, events):
        """Sends events, dicts of arguments of send(), as one batch; their numbers."""
        made = [self.event_record(**one) for one in events]
        self._seq += 1
        self.write(record(BATCH, self._seq, [(RECORD, data) for _, data in made]))
        return [seq for seq, _ in made]

    def credit(self, seq, n):
        self.write(record(CREDIT, seq, [(META, struct.pack("<II", n, 0))]))

    def cancel(self, seq):
        self.write(record(CANCEL, seq, []))

    def answer(self, seq, patience=PATIENCE):
        """The answer to an event, all of it; gives credit for streams."""
        answer = self.answers[seq]
        given = 0
        def done():
            nonlocal given
            if len(answer.body) > given and not answer.done:
                self.credit(seq, len(answer.body) - given)
                given = len(answer.body)
            return answer.done
        self.wait(done, patience)
        return answer

    def call(self, body=None, **kw):
        """Sends an event and waits for its answer."""
        return self.answer(self.send(body, **kw))

    def logs_of(self, seq):
        return [log for log in self.logs if log.seq == seq]

    def wait_end(self, patience=PATIENCE):
        """Waits until the process has ended; its exit status."""
        end = time.monotonic() + patience
        while self.exit_status is None:
            self._read(0.02)
            self._reap(os.WNOHANG)
            if time.monotonic() > end:
                raise TimeoutError(f"it does not end; output: {self.output}")
        self._read(0)
        return self.exit_status


def _high(fd):
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20)
