"""The processor's side of the shared-memory data plane (docs/wire.md), for tests of workers: makes
the memory and what wakes, writes events, reads results. Plain Python: it wakes the worker after
each batch of records, whether it sleeps or not."""

import fcntl
import mmap
import os
import select
import socket
import struct
import time
from dataclasses import dataclass, field

FILL, EVENT, BATCH, RESULT, CHUNK, CANCEL, CREDIT, EMIT, ACK = range(9)
STREAMED, LOGGED, FAILED, HEAD = 1, 2, 4, 8
(META, BODY, BODY_REF, HEADERS, CONTENT_TYPE, METHOD, PATH, TARGET, QUERY, SCHEME, KEY, TOPIC, PEER,
 TRACE_PARENT, RECORD) = range(1, 16)
DOWN, UP = 0, 1  # rings and pools: to the worker, to the processor

PAGE = 4096
AREAS = 16       # ring[2], pool[2]
INDEXES = 128    # of the ring to the worker; 256 bytes each, on cache lines of their own
TAIL, TAKEN, HEAD_AT, SLEEPING, FULL = 0, 64, 128, 192, 196

record_head = struct.Struct("=IHBBQ")
section_head = struct.Struct("=HHII")
event_meta = struct.Struct("=16sQQQQiIIHHHB5x")
result_meta = struct.Struct("=QIHBx")


def pack(kind: int, seq: int, sections: list[tuple[int, bytes]], flags: int = 0) -> bytes:
    head_size = record_head.size + section_head.size * len(sections)
    heads, body, at = b"", b"", head_size
    for ident, content in sections:
        pad = -at % 16
        body += bytes(pad) + content
        at += pad
        heads += section_head.pack(ident, 0, at, len(content))
        at += len(content)
    pad = -at % 16
    return record_head.pack(at + pad, head_size, kind, flags, seq) + heads + body + bytes(pad)


def pack_headers(headers: list[tuple[bytes, bytes]]) -> bytes:
    return (struct.pack("=I", len(headers))
            + b"".join(struct.pack("=II", len(n), len(v)) for n, v in headers)
            + b"".join(n + v for n, v in headers))


def unpack_headers(content: bytes) -> list[tuple[bytes, bytes]]:
    if not content:
        return []
    count = int.from_bytes(content[:4], "little")
    at, found = 4 + 8 * count, []
    for i in range(count):
        n, v = struct.unpack_from("=II", content, 4 + 8 * i)
        found.append((content[at:at + n], content[at + n:at + n + v]))
        at += n + v
    return found


def event(seq: int, body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None,
          sections: list[tuple[int, bytes]] | None = None, *, method: bytes = b"GET",
          path: bytes = b"/", query: bytes = b"", content_type: bytes = b"", hi: int = 0,
          shard: int = -1, timestamp_ns: int = 1_700_000_000_123_456_789, trigger: int = 0,
          log_level: int = 255, http_version: int = 11) -> bytes:
    """An EVENT record."""
    meta = event_meta.pack(seq.to_bytes(16, "big"), timestamp_ns, hi, 0, 0, shard, 0, 1,
                           http_version, 1234, trigger, log_level)
    parts = [(META, meta), (METHOD, method), (PATH, path)]
    for ident, content in ((QUERY, query), (CONTENT_TYPE, content_type), (BODY, body)):
        if content:
            parts.append((ident, content))
    if headers:
        parts.append((HEADERS, pack_headers(headers)))
    return pack(EVENT, seq, parts + (sections or []))


@dataclass
class Record:
    kind: int
    flags: int
    seq: int
    sections: dict[int, bytes]
    status: int = 0
    outcome: int = 0
    duration_ns: int = 0

    @property
    def body(self) -> bytes:
        return self.sections.get(BODY, b"")

    @property
    def content_type(self) -> str:
        return self.sections.get(CONTENT_TYPE, b"").decode()

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return unpack_headers(self.sections.get(HEADERS, b""))


@dataclass
class Reply:
    """All that answered one event."""

    result: Record
    chunks: list[Record] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(c.body for c in self.chunks) + self.result.body


class RingPeer:
    def __init__(self, ring_size: int = 1 << 20, pool_size: int = 8 << 20) -> None:
        self.ring_size, self.pool_size = ring_size, pool_size
        size = PAGE + 2 * ring_size + 2 * pool_size
        self.memory_fd = os.memfd_create("peer", os.MFD_CLOEXEC)
        os.ftruncate(self.memory_fd, size)
        self.map = mmap.mmap(self.memory_fd, size)
        self.ring_at = (PAGE, PAGE + ring_size)
        self.pool_at = (PAGE + 2 * ring_size, PAGE + 2 * ring_size + pool_size)
        struct.pack_into("=IIQ", self.map, 0, 0x4D575453, 1, size)
        for i, (at, length) in enumerate([(at, ring_size) for at in self.ring_at]
                                         + [(at, pool_size) for at in self.pool_at]):
            struct.pack_into("=QQ", self.map, AREAS + 16 * i, at, length)
        self.u64 = memoryview(self.map).cast("Q")  # whole stores
        self.u32 = memoryview(self.map).cast("I")
        self.wake_worker, self.wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.wake_peer = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.control, self.worker_control = socket.socketpair()
        self.tail = self.head = 0
        self.wakeups = 0
        self.credit_automatically = True
        self.ack_automatically = True

    def close(self) -> None:
        self.u64.release()
        self.u32.release()
        self.map.close()
        for fd in (self.memory_fd, self.wake_worker, self.wake_end, self.wake_peer):
            os.close(fd)
        self.control.close()
        self.worker_control.close()

    def wake(self) -> None:
        try:
            os.write(self.wake_end, b"\0")
        except BlockingIOError:
            pass  # it has not read those that are there: it does not sleep

    def index(self, ring: int, what: int) -> int:
        return self.u64[(INDEXES + 256 * ring + what) // 8]

    # To the worker

    def write(self, *records: bytes, wake: bool = True) -> int:
        """Writes records; the place of the first."""
        first = None
        for record in records:
            place = self.tail & (self.ring_size - 1)
            if self.ring_size - place < len(record):
                left = self.ring_size - place
                self._put(place, record_head.pack(left, 16, FILL, 0, 0))
                self.tail += left
                place = 0
            deadline = time.monotonic() + 20
            while self.tail + len(record) - self.index(DOWN, HEAD_AT) > self.ring_size:
                assert time.monotonic() < deadline, "the worker frees no room"
                time.sleep(0.001)
            self._put(place, record)
            first = self.tail if first is None else first
            self.tail += len(record)
            self.u64[(INDEXES + TAIL) // 8] = self.tail
        if wake:
            self.wake()
        return first or 0

    def _put(self, place: int, record: bytes) -> None:
        at = self.ring_at[DOWN] + place
        self.map[at:at + len(record)] = record

    def put_body(self, offset: int, body: bytes) -> tuple[int, bytes]:
        """A BODY_REF section of a body in the pool."""
        at = self.pool_at[DOWN] + offset
        self.map[at:at + len(body)] = body
        return BODY_REF, struct.pack("=IIQQ", DOWN, 0, offset, len(body))

    def take_back(self) -> None:
        """While the worker is busy: what it has not begun is gone."""
        self.u64[(INDEXES + TAKEN) // 8] = self.tail

    # From the worker

    def poll_bytes(self) -> bytes | None:
        """The next record as it is, if there is one."""
        while self.head != self.index(UP, TAIL):
            at = self.ring_at[UP] + (self.head & (self.ring_size - 1))
            size, head_size, kind, flags, seq = record_head.unpack_from(self.map, at)
            assert size % 16 == 0 and size >= head_size >= 16
            self.head += size
            content = self.map[at:at + size]
            self.u64[(INDEXES + 256 + HEAD_AT) // 8] = self.head
            if self.u32[(INDEXES + 256 + FULL) // 4]:
                self.u32[(INDEXES + 256 + FULL) // 4] = 0
                self.wake()
            if kind != FILL:
                return content
        return None

    def poll(self) -> Record | None:
        """The next record, if there is one."""
        content = self.poll_bytes()
        return self._read(content) if content is not None else None

    def _read(self, content: bytes) -> Record:
        _, head_size, kind, flags, seq = record_head.unpack_from(content)
        sections = {}
        for ident, _, offset, length in section_head.iter_unpack(content[16:head_size]):
            assert offset >= head_size
            sections[ident] = content[offset:offset + length]
        record = Record(kind, flags, seq, sections)
        if META in sections and kind != CREDIT:
            (record.duration_ns, _, record.status, record.outcome) = result_meta.unpack(
                sections[META])
        if BODY_REF in sections:
            sections[BODY] = self.pool_body(sections[BODY_REF])
        if kind == CHUNK and self.credit_automatically:
            self.credit(seq, len(record.body))
        return record

    def pool_body(self, ref: bytes) -> bytes:
        """The bytes that a BODY_REF section names; their place is given back."""
        _, _, offset, length = struct.unpack("=IIQQ", ref)
        assert offset + length <= self.pool_size
        begin = self.pool_at[UP] + offset
        content = self.map[begin:begin + length]
        if self.ack_automatically:
            self.write(pack(ACK, 0, [(BODY_REF, ref)]))
        return content

    def credit(self, seq: int, n: int) -> None:
        self.write(pack(CREDIT, seq, [(META, struct.pack("=II", n, 0))]))

    def next(self, timeout: float = 20) -> Record:
        """The next record; waits for it as the processor does, by the eventfd."""
        deadline = time.monotonic() + timeout
        while True:
            record = self.poll()
            if record is not None:
                return record
            self.u32[(INDEXES + 256 + SLEEPING) // 4] = 1
            if self.head != self.index(UP, TAIL):
                continue
            assert time.monotonic() < deadline, "no record came"
            # Not long: the flag is no atomic exchange here.
            if select.select([self.wake_peer], [], [], 0.05)[0]:
                os.eventfd_read(self.wake_peer)
                self.wakeups += 1

    def sleep(self) -> None:
        """From now on the eventfd says what comes; what is there already may be polled."""
        self.u32[(INDEXES + 256 + SLEEPING) // 4] = 1

    def reply(self, timeout: float = 20) -> Reply:
        """The next event's whole answer."""
        chunks: dict[int, list[Record]] = {}
        while True:
            record = self.next(timeout)
            if record.kind == RESULT:
                return Reply(record, chunks.get(record.seq, []))
            assert record.kind == CHUNK
            chunks.setdefault(record.seq, []).append(record)

    def replies(self, n: int, timeout: float = 20) -> dict[int, Reply]:
        """The whole answers of n events."""
        chunks: dict[int, list[Record]] = {}
        found: dict[int, Reply] = {}
        while len(found) < n:
            record = self.next(timeout)
            if record.kind == CHUNK:
                chunks.setdefault(record.seq, []).append(record)
            else:
                assert record.kind == RESULT and record.seq not in found
                found[record.seq] = Reply(record, chunks.get(record.seq, []))
        return found

    def worker_fds(self) -> dict[int, int]:
        """What the worker's descriptors are: its number there, ours."""
        return {3: self.worker_control.fileno(), 5: self.memory_fd, 6: self.wake_worker,
                7: self.wake_peer}


def inherit(fds: dict[int, int]) -> None:
    """In the child, before exec: gives the descriptors their numbers."""
    copies = {to: fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for to, fd in fds.items()}
    for to, copy in copies.items():
        os.dup2(copy, to)
        os.close(copy)
