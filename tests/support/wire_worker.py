#!/usr/bin/env python3
"""A worker written from docs/wire.md and worker.proto: the standard library, nothing of Stator's.
It shows that they are enough to write a worker in another language. Its handler answers with the
body of the event; a path gives other things to do:

    /headers    the event's headers as lines      /status/N   that status
    /log        a log message, then the body      /stream/N   N chunks of 1,000 bytes
    /meta       what META says                    /exit/N     the process ends

It takes records from descriptor 4, does one event at a time and tells so by one credit.
"""

import os
import select
import struct
import sys
import time

CONTROL, DATA = 3, 4
EVENT, BATCH, RESULT, CHUNK, CANCEL, CREDIT = 1, 2, 3, 4, 5, 6
STREAMED, LOGGED, FAILED, HEAD = 1, 2, 4, 8
META, BODY, HEADERS, CONTENT_TYPE, METHOD, PATH, RECORD = 1, 2, 4, 5, 6, 7, 15


# Protobuf: a field is a tag (number << 3 | type), and a varint (type 0) or length and bytes (2).

def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def number(ident, value):
    return varint(ident << 3) + varint(value)


def text(ident, content):
    content = content if isinstance(content, bytes) else content.encode()
    return varint(ident << 3 | 2) + varint(len(content)) + content


def read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def fields(data):
    found, at = {}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if tag & 7 == 2:
            value, at = data[at:at + value], at + value
        found[tag >> 3] = value
    return found


def read(fd, size):
    data = b""
    while len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            sys.exit(0)  # the processor is gone
        data += more
    return data


def write(fd, data):
    while data:
        data = data[os.write(fd, data):]


def say(kind, message):
    message = text(kind, message)  # FromWorker has one field, of this number
    write(CONTROL, struct.pack("<I", len(message)) + message)


def hear():
    (length,) = struct.unpack("<I", read(CONTROL, 4))
    return next(iter(fields(read(CONTROL, length)).items()))


# Records

def send(kind, flags, seq, sections):
    at = 16 + 12 * len(sections)
    heads = body = b""
    for ident, content in sections:
        heads += struct.pack("<HHII", ident, 0, at + len(body), len(content))
        body += content
    size = (at + len(body) + 15) // 16 * 16
    record = struct.pack("<IHBBQ", size, at, kind, flags, seq) + heads + body
    write(DATA, record.ljust(size, b"\0"))


def receive():
    head = read(DATA, 16)
    return head + read(DATA, struct.unpack_from("<I", head)[0] - 16)


def split(record):
    """kind, seq, {section id: bytes}"""
    _, header_size, kind, _, seq = struct.unpack_from("<IHBBQ", record)
    return kind, seq, {ident: record[offset:offset + length] for ident, _, offset, length
                       in struct.iter_unpack("<HHII", record[16:header_size])}


def headers_of(content):
    (count,) = struct.unpack_from("<I", content or bytes(4))
    lengths = struct.unpack_from(f"<{2 * count}I", content, 4) if count else ()
    at, parts = 4 + 8 * count, []
    for length in lengths:
        parts.append(content[at:at + length])
        at += length
    return list(zip(parts[::2], parts[1::2]))


class Worker:
    def __init__(self):
        self.waiting, self.window, self.cancelled = [], 0, False

    def take(self, current=0):
        """Reads one record; events wait for their turn."""
        record = receive()
        kind, seq, sections = split(record)
        if kind == EVENT:
            self.waiting.append((seq, sections))
        elif kind == BATCH:  # each event in it is answered by itself
            for ident, _, offset, length in struct.iter_unpack(
                    "<HHII", record[16:struct.unpack_from("<H", record, 4)[0]]):
                if ident == RECORD:
                    self.waiting.append(split(record[offset:offset + length])[1:])
        elif kind == CREDIT and seq == current:
            self.window += struct.unpack_from("<I", sections[META])[0]
        elif kind == CANCEL and seq == current:
            self.cancelled = True

    def answer(self, seq, sections):
        began = time.monotonic_ns()
        path, body = sections.get(PATH, b"/").decode(), sections.get(BODY, b"")
        flags, status = 0, 200
        name, _, argument = path[1:].partition("/")
        if name == "headers":
            body = b"".join(b"%s: %s\n" % pair for pair in headers_of(sections.get(HEADERS)))
        elif name == "status":
            status = int(argument)
        elif name == "log":
            say(4, number(1, seq) + number(2, 1) + text(3, "a message") + text(4, '{"a": 1}'))
            flags = LOGGED
        elif name == "meta":
            ident, timestamp, hi, lo, _, shard = struct.unpack_from("<16sQQQQi", sections[META])
            body = f"{ident.hex()} {timestamp} {hi} {lo} {shard}".encode()
        elif name == "stream":
            return self.stream(seq, int(argument), began)
        elif name == "exit":
            os._exit(int(argument))
        meta = struct.pack("<QIHBB", time.monotonic_ns() - began, 0, status, status >= 500, 0)
        headers = struct.pack("<III", 1, 8, 5) + b"X-Worker" + b"plain"
        send(RESULT, flags, seq, [(META, meta), (CONTENT_TYPE, b"text/plain"), (HEADERS, headers),
                                  (BODY, body)])

    def stream(self, seq, count, began):
        self.window, self.cancelled = 262144, False
        for i in range(count):
            while self.window < 1000 and not self.cancelled:
                self.take(seq)
            if self.cancelled:
                break
            self.window -= 1000
            head = [(META, struct.pack("<QIHBB", 0, 0, 200, 0, 0)), (CONTENT_TYPE, b"text/plain")]
            send(CHUNK, 0 if i else HEAD, seq, ([] if i else head) + [(BODY, b"%03d\n" % i * 250)])
        spent = time.monotonic_ns() - began
        send(RESULT, STREAMED | (FAILED if self.cancelled else 0), seq,
             [(META, struct.pack("<QIHBB", spent, 0, 0, self.cancelled, 0))])

    def run(self):
        say(1, number(1, 1) + text(2, "plain python"))
        kind, _ = hear()
        assert kind == 1  # Configure
        say(2, number(1, 1))
        while True:
            wanted = [CONTROL, DATA] if not self.waiting else [CONTROL]
            ready, _, _ = select.select(wanted, [], [], 0 if self.waiting else None)
            if CONTROL in ready:
                kind, _ = hear()
                if kind == 3:  # Terminate
                    return
                while kind == 2:  # Drain, until Resume or Terminate
                    say(6, b"")
                    kind, _ = hear()
                if kind == 3:
                    return
            elif DATA in ready:
                self.take()
            if self.waiting:
                self.answer(*self.waiting.pop(0))


if __name__ == "__main__":
    Worker().run()
