"""Records of the worker wire (docs/wire.md)."""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Optional, Union

    Bytes = Union[bytes, memoryview]

PROTOCOL = 1
FD_CONTROL, FD_DATA, FD_MEMORY, FD_WAKE_WORKER, FD_WAKE_PROCESSOR, FD_END = 3, 4, 5, 6, 7, 8

FILL, EVENT, BATCH, RESULT, CHUNK, CANCEL, CREDIT, EMIT, ACK, CALL, RETURN = range(11)

STREAMED, LOGGED, FAILED, HEAD, NO_VALUE = 1, 2, 4, 8, 16  # flags

(META, BODY, BODY_REF, HEADERS, CONTENT_TYPE, METHOD, PATH, TARGET, QUERY, SCHEME, KEY, TOPIC,
 PEER, TRACE_PARENT, RECORD, NAME, TEXT) = range(1, 18)

OUTCOME_OK, OUTCOME_ERROR, OUTCOME_RETRY, OUTCOME_REJECT = range(4)

NO_LOG_LEVEL = 255
CHUNK_BYTES = 65536
RECORD_BODY = 4 << 20  # a longer one may not fit into a record and goes in chunks
STREAM_WINDOW = 262144

record_head = struct.Struct("<IHBBQ")
section_head = struct.Struct("<HHII")
# id, timestamp_ns, hi, lo, deadline_ns, shard, shards, attempt, http_version, peer_port, trigger,
# log_level
event_meta = struct.Struct("<16sQQQQiIIHHHB5x")
result_meta = struct.Struct("<QIHBx")
credit_meta = struct.Struct("<II")

_padding = tuple(bytes(n) for n in range(16))


class BrokenRecord(Exception):
    """What came is no record."""


def pack(kind: int, flags: int, seq: int, sections: Iterable[tuple[int, Bytes]]) -> bytes:
    """A record."""
    sections = list(sections)
    header_size = record_head.size + section_head.size * len(sections)
    heads, parts = [], []
    at = header_size
    for ident, content in sections:
        if ident == RECORD and at % 16:
            parts.append(_padding[-at % 16])
            at += -at % 16
        heads.append(section_head.pack(ident, 0, at, len(content)))
        parts.append(content)
        at += len(content)
    parts.append(_padding[-at % 16])
    head = record_head.pack(at + -at % 16, header_size, kind, flags, seq)
    return b"".join([head, *heads, *parts])


def sections(record: Bytes) -> list[tuple[int, int, int]]:
    """(id, offset, length) of each section; BrokenRecord."""
    size, header_size = record_head.unpack_from(record)[:2]
    if (size != len(record) or header_size > size or header_size < record_head.size
            or (header_size - record_head.size) % section_head.size):
        raise BrokenRecord("a record whose sizes do not fit")
    found = []
    for ident, _, offset, length in section_head.iter_unpack(
            memoryview(record)[record_head.size:header_size]):
        if offset < header_size or offset + length > size:
            raise BrokenRecord(f"section {ident} lies outside its record")
        found.append((ident, offset, length))
    return found


def section(record: Bytes, ident: int) -> Optional[bytes]:
    """The bytes of the last section with the id; None without it."""
    for found, offset, length in reversed(sections(record)):
        if found == ident:
            return bytes(record[offset:offset + length])
    return None


def pack_headers(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The bytes of a HEADERS section."""
    lengths = [len(part) for header in headers for part in header]
    return struct.pack(f"<I{len(lengths)}I", len(headers), *lengths) + b"".join(
        [part for header in headers for part in header])


def unpack_headers(content: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values of a HEADERS section; BrokenRecord."""
    if not content:
        return []
    try:
        (count,) = struct.unpack_from("<I", content)
        lengths = struct.unpack_from(f"<{2 * count}I", content, 4)
    except struct.error:
        raise BrokenRecord("headers that are cut") from None
    at = 4 + 8 * count
    if at + sum(lengths) > len(content):
        raise BrokenRecord("headers that are cut")
    found = []
    for i in range(0, 2 * count, 2):
        middle = at + lengths[i]
        end = middle + lengths[i + 1]
        found.append((content[at:middle], content[middle:end]))
        at = end
    return found


def result(seq: int, flags: int, duration_ns: int, outcome: int, status: int, content_type: bytes,
           headers: list[tuple[bytes, bytes]], body: Bytes, retry_after_ms: int = 0) -> bytes:
    """A RESULT record."""
    parts: list[tuple[int, Bytes]] = [
        (META, result_meta.pack(duration_ns, retry_after_ms, status, outcome))]
    if content_type:
        parts.append((CONTENT_TYPE, content_type))
    if headers:
        parts.append((HEADERS, pack_headers(headers)))
    if body:
        parts.append((BODY, body))
    return pack(RESULT, flags, seq, parts)


def chunk(seq: int, body: Bytes, head: Optional[tuple[int, int, bytes,
                                                      list[tuple[bytes, bytes]]]] = None) -> bytes:
    """A CHUNK record; head: (duration_ns, status, content_type, headers) of the first one."""
    if head is None:
        return pack(CHUNK, 0, seq, [(BODY, body)])
    duration_ns, status, content_type, headers = head
    return pack(CHUNK, HEAD, seq, [
        (META, result_meta.pack(duration_ns, 0, status, OUTCOME_OK)),
        (CONTENT_TYPE, content_type), (HEADERS, pack_headers(headers)), (BODY, body)])


def more_events(n: int) -> bytes:
    """A CREDIT record: n more events at once than Ready said."""
    return pack(CREDIT, 0, 0, [(META, credit_meta.pack(n, 0))])
