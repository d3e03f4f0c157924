"""An HTTP/1 client that hides nothing: exact bytes out, exact bytes in, strict about framing."""

import re
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

# ("127.0.0.1", port), ("::1", port), or the path of a unix socket
Address = tuple[str, int] | str

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t\x20-\x7e]*)")
HEADER_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([^\r\n\x00]*)")


@dataclass
class Response:
    """What came back. raw has it as it was on the wire, head and framed body."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    raw: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)  # statuses of 1xx answers before it

    def all(self, name: str) -> list[str]:
        """Values of the header, in order."""
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The only value of the header; None when it is not there."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def closes(self) -> bool:
        return (self.header("Connection") or "").lower() == "close"


def build_request(method: str, target: str = "/", body: bytes | None = None,
                  headers: Sequence[tuple[str, str]] = (), version: str = "1.1") -> bytes:
    """Bytes of a request; Host and Content-Length are added unless they are given."""
    given = {name.lower() for name, _ in headers}
    lines = [f"{method} {target} HTTP/{version}"]
    if "host" not in given:
        lines.append("Host: test")
    if body is not None and not given & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


class Closed(AssertionError):
    """The peer closed before the answer was whole; got has what came of it."""

    def __init__(self, got: bytes):
        super().__init__(f"closed after {len(got)} bytes: {got[:200]!r}")
        self.got = got


class Connection:
    """A blocking socket; each step ends within `timeout` seconds or raises TimeoutError."""

    def __init__(self, address: Address, timeout: float, rcvbuf: int | None = None):
        family = (socket.AF_UNIX if isinstance(address, str)
                  else socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.timeout = timeout
        self.buffer = bytearray()
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            if rcvbuf is not None:  # before connect: it decides the window
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            self.socket.connect(address)
            if family != socket.AF_UNIX:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Closes by RST: the peer learns at once that nobody reads any more."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def end_input(self) -> None:
        """Nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, method: str, target: str = "/", body: bytes | None = None,
            headers: Sequence[tuple[str, str]] = ()) -> Response:
        """One request and its answer; the connection stays."""
        self.send(build_request(method, target, body, headers))
        return self.read_response(method == "HEAD")

    # Reading

    def _fill(self) -> bool:
        """More bytes into the buffer; False at the end."""
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        return bool(data)

    def _take(self, n: int) -> bytes:
        while len(self.buffer) < n:
            if not self._fill():
                raise Closed(bytes(self.buffer))
        data = bytes(self.buffer[:n])
        del self.buffer[:n]
        return data

    def _take_line(self) -> bytes:
        """One line without its CRLF, which must be just that."""
        while (end := self.buffer.find(b"\n")) < 0:
            if not self._fill():
                raise Closed(bytes(self.buffer))
        line = self._take(end + 1)
        assert line.endswith(b"\r\n"), f"line without CRLF: {line!r}"
        return line[:-2]

    def _read_head(self) -> Response:
        line = self._take_line()
        match = STATUS_LINE.fullmatch(line)
        assert match, f"no status line: {line!r}"
        answer = Response(int(match[1]), match[2].decode(), [])
        raw = [line]
        while line := self._take_line():
            raw.append(line)
            match = HEADER_LINE.fullmatch(line)
            assert match, f"no header line: {line!r}"
            answer.headers.append((match[1].decode(), match[2].decode("latin-1")))
        answer.raw = b"\r\n".join(raw) + b"\r\n\r\n"
        return answer

    def _read_chunks(self, answer: Response) -> None:
        while True:
            line = self._take_line()
            assert re.fullmatch(rb"[0-9a-fA-F]+", line), f"no chunk size: {line!r}"
            chunk = self._take(int(line, 16))
            end = self._take(2)
            assert end == b"\r\n", f"chunk ends with {end!r}"
            answer.raw += line + b"\r\n" + chunk + b"\r\n"
            if not chunk:
                break
            answer.chunks.append(chunk)
        answer.body = b"".join(answer.chunks)

    def read_head(self) -> Response:
        """Status line and headers only; what follows stays to be read."""
        return self._read_head()

    def read_response(self, to_head: bool = False) -> Response:
        """One whole answer. to_head: the request was HEAD, so no body comes."""
        interim = []
        answer = self._read_head()
        while 100 <= answer.status < 200:
            interim.append(answer.status)
            answer = self._read_head()
        answer.interim = interim
        length, coding = answer.header("Content-Length"), answer.header("Transfer-Encoding")
        assert length is None or coding is None, "both Content-Length and Transfer-Encoding"
        if to_head or answer.status in (204, 304):
            return answer
        if coding is not None:
            assert coding == "chunked"
            self._read_chunks(answer)
        elif length is not None:
            assert re.fullmatch(r"[0-9]+", length)
            answer.body = self._take(int(length))
            answer.raw += answer.body
        else:
            assert answer.closes, "neither length nor chunks nor close"
            answer.body = self.read_to_end()
            answer.raw += answer.body
        return answer

    def read_to_end(self) -> bytes:
        """All bytes until the peer closes."""
        while self._fill():
            pass
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    def read_until(self, end: bytes) -> int:
        """Drops everything up to these bytes; returns how many there were."""
        n = 0
        while (at := self.buffer.find(end)) < 0:
            drop = max(0, len(self.buffer) - len(end))
            del self.buffer[:drop]
            n += drop
            if not self._fill():
                raise Closed(bytes(self.buffer))
        del self.buffer[:at + len(end)]
        return n + at + len(end)

    def read_some(self, n: int) -> bytes:
        """Exactly n bytes."""
        return self._take(n)

    def is_closed(self) -> bool:
        """Waits for the peer's close; False when it sends something instead."""
        return not self.buffer and not self._fill()

    def is_quiet(self, seconds: float) -> bool:
        """True when nothing comes for so long: neither bytes nor the end."""
        if self.buffer:
            return False
        self.socket.settimeout(seconds)
        try:
            start = time.monotonic()
            self.buffer += self.socket.recv(1 << 18)
            raise AssertionError(f"not quiet after {time.monotonic() - start:.3f} s: "
                                 f"{bytes(self.buffer[:100])!r}")
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(self.timeout)
