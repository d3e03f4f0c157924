"""What an attacker sends to make a proxy and Stator see different requests (RFC 9112 sections 3, 5,
6, 7 and 11.2).

A table of raw bytes against the real processor. A request is either taken, with exactly the body
that it has by the standard, or refused, and then nothing behind it is answered: a line of the table
never becomes two requests. Every line is sent in one piece, in two and byte by byte.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from http_raw import Closed, Connection, Response  # noqa: E402
from stator_proc import Stator  # noqa: E402

CANARY = b"GET /canary HTTP/1.1\r\nHost: a\r\n\r\n"
HOST = b"Host: a\r\n"
LINE = b"GET / HTTP/1.1\r\n"
GET = LINE + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
HELLO = b"5\r\nhello\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(frozen=True)
class Row:
    """Bytes on the wire and what must come of them: bodies that the handler got, in order, or the
    status of the refusal."""

    name: str
    sent: bytes
    bodies: tuple[bytes, ...] = ()
    refusal: int = 0
    closes: bool = False


def taken(name: str, sent: bytes, *bodies: bytes, closes: bool = False) -> Row:
    return Row(name, sent, bodies or (b"",), closes=closes)


def refused(name: str, sent: bytes, status: int = 400) -> Row:
    return Row(name, sent, refusal=status)


TAKEN = [
    taken("plain", GET + b"\r\n"),
    taken("length", POST + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    taken("length-zeros", POST + b"Content-Length: 0005\r\n\r\nhello", b"hello"),
    taken("length-0", POST + b"Content-Length: 0\r\n\r\n"),
    taken("length-blanks", POST + b"Content-Length: \t5  \r\n\r\nhello", b"hello"),
    taken("get-with-body", GET + b"Content-Length: 35\r\n\r\n" + SMUGGLED, SMUGGLED),
    taken("body-is-a-request", POST + b"Content-Length: 35\r\n\r\n" + SMUGGLED, SMUGGLED),
    taken("chunks", CHUNKED + HELLO + b"6\r\n world\r\n" + END, b"hello world"),
    taken("chunks-zeros", CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    taken("chunks-hex", CHUNKED + b"A\r\n0123456789\r\na\r\n0123456789\r\n" + END,
          b"0123456789" * 2),
    taken("chunk-is-a-request", CHUNKED + b"23\r\n" + SMUGGLED + b"\r\n" + END, SMUGGLED),
    taken("chunked-any-case", POST + b"tRANSFER-eNCODING: CHUNKED\r\n\r\n" + HELLO + END,
          b"hello"),
    taken("extensions", CHUNKED + b'5;a;b=c\r\nhello\r\n5;d="e f";g\r\nworld\r\n0;h\r\n\r\n',
          b"helloworld"),
    taken("trailers", CHUNKED + HELLO + b"0\r\nX-One: 1\r\nX-Two:\r\n\r\n", b"hello"),
    taken("trailers-that-frame", CHUNKED + HELLO + b"0\r\nContent-Length: 35\r\n"
          b"Connection: close\r\nHost: evil\r\n\r\n", b"hello"),
    taken("empty-lines-before", b"\r\n\r\n" + GET + b"\r\n"),
    taken("absolute-form", b"GET http://b/x HTTP/1.1\r\n" + HOST + b"\r\n"),
    taken("asterisk-form", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n"),
    taken("upgrade-with-body", POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
          b"Content-Length: 5\r\n\r\nhello", b"hello"),
    taken("websocket", GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    taken("odd-names", GET + b"!#$%&'*+-.^_`|~: x\r\nContent_Length: 9\r\n"
          b"Content-Lengt: 9\r\nXContent-Length: 9\r\n\r\n"),
    taken("obs-text", GET + b"X: \x80\xff\r\n\r\n"),
    taken("close", POST + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello" + SMUGGLED,
          b"hello", closes=True),
    taken("http-1.0", b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello" + SMUGGLED, b"hello",
          closes=True),
    taken("http-1.0-keep-alive", b"POST / HTTP/1.0\r\nConnection: keep-alive\r\n"
          b"Content-Length: 5\r\n\r\nhello", b"hello"),
]

REFUSED = [
    # Length and chunks (RFC 9112 section 6.3)
    refused("length-and-chunks", POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"
            b"\r\n0\r\n\r\nG"),
    refused("chunks-and-length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"
            b"\r\n23\r\n" + SMUGGLED + b"\r\n" + END),
    refused("two-lengths", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    refused("two-different-lengths", POST + b"Content-Length: 0\r\nContent-Length: 35\r\n\r\n"
            + SMUGGLED),
    refused("length-list", POST + b"Content-Length: 5, 5\r\n\r\nhello"),
    refused("length-plus", POST + b"Content-Length: +5\r\n\r\nhello"),
    refused("length-minus", POST + b"Content-Length: -5\r\n\r\nhello"),
    refused("length-hex", POST + b"Content-Length: 0x5\r\n\r\nhello"),
    refused("length-fraction", POST + b"Content-Length: 5.0\r\n\r\nhello"),
    refused("length-exponent", POST + b"Content-Length: 5e0\r\n\r\nhello"),
    refused("length-underscore", POST + b"Content-Length: 1_0\r\n\r\nhello12345"),
    refused("length-blank-inside", POST + b"Content-Length: 5 5\r\n\r\nhello"),
    refused("length-empty", POST + b"Content-Length: \r\n\r\n"),
    refused("length-nul", POST + b"Content-Length: 5\x00\r\n\r\nhello"),
    refused("length-vertical-tab", POST + b"Content-Length: \x0b5\r\n\r\nhello"),
    refused("length-nbsp", POST + b"Content-Length: \xa05\r\n\r\nhello"),
    refused("length-overflow", POST + b"Content-Length: 18446744073709551621\r\n\r\nhello"),
    refused("length-blank-before-colon", POST + b"Content-Length : 5\r\n\r\nhello"),
    refused("length-tab-before-colon", POST + b"Content-Length\t: 5\r\n\r\nhello"),
    refused("length-blank-before-name", POST + b" Content-Length: 5\r\n\r\nhello"),
    refused("length-folded", POST + b"Content-Length:\r\n 5\r\n\r\nhello"),
    refused("length-behind-bare-lf", POST + b"X: y\nContent-Length: 5\r\n\r\nhello"),
    refused("length-behind-bare-cr", POST + b"X: y\rContent-Length: 5\r\n\r\nhello"),
    # Transfer-Encoding (section 6.1)
    refused("coding-unknown", POST + b"Transfer-Encoding: gzip\r\n\r\n"),
    refused("coding-identity", POST + b"Transfer-Encoding: identity\r\n\r\n"),
    refused("coding-list", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END, 501),
    refused("coding-list-identity", POST + b"Transfer-Encoding: identity, chunked\r\n\r\n" + END,
            501),
    refused("coding-chunked-first", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + END),
    refused("coding-chunked-twice", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + END),
    refused("coding-twice", POST + b"Transfer-Encoding: chunked\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + END),
    refused("coding-then-identity", POST + b"Transfer-Encoding: chunked\r\n"
            b"Transfer-encoding: identity\r\n\r\n" + END),
    refused("coding-identity-then", POST + b"Transfer-Encoding: identity\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + END),
    refused("coding-then-x", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"
            b"\r\n" + END),
    refused("coding-xchunked", POST + b"Transfer-Encoding: xchunked\r\n\r\n" + END),
    refused("coding-chunkedx", POST + b"Transfer-Encoding: chunkedx\r\n\r\n" + END),
    refused("coding-parameter", POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + END),
    refused("coding-comma", POST + b"Transfer-Encoding: chunked,\r\n\r\n" + END),
    refused("coding-quoted", POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + END),
    refused("coding-vertical-tab", POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + END),
    refused("coding-form-feed", POST + b"Transfer-Encoding: chunked\x0c\r\n\r\n" + END),
    refused("coding-nul", POST + b"Transfer-Encoding: chunked\x00\r\n\r\n" + END),
    refused("coding-empty", POST + b"Transfer-Encoding:\r\n\r\n"),
    refused("coding-folded", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END),
    refused("coding-folded-tab", POST + b"Transfer-Encoding:\r\n\tchunked\r\n\r\n" + END),
    refused("coding-blank-before-colon", POST + b"Transfer-Encoding : chunked\r\n\r\n" + END),
    refused("coding-blank-before-name", POST + b" Transfer-Encoding: chunked\r\n\r\n" + END),
    refused("coding-behind-bare-lf", POST + b"X: y\nTransfer-Encoding: chunked\r\n\r\n" + END),
    refused("coding-behind-lf-cr", POST + b"X: y\n\rTransfer-Encoding: chunked\r\n\r\n" + END),
    refused("coding-http-1.0", b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
            + END),
    # Chunks (section 7.1)
    refused("chunk-0x", CHUNKED + b"0x5\r\nhello\r\n" + END),
    refused("chunk-plus", CHUNKED + b"+5\r\nhello\r\n" + END),
    refused("chunk-minus", CHUNKED + b"-0\r\n\r\n"),
    refused("chunk-underscore", CHUNKED + b"0_5\r\nhello\r\n" + END),
    refused("chunk-blank-before", CHUNKED + b" 5\r\nhello\r\n" + END),
    refused("chunk-blank-behind", CHUNKED + b"5 \r\nhello\r\n" + END),
    refused("chunk-junk-behind", CHUNKED + b"5 junk\r\nhello\r\n" + END),
    refused("chunk-empty", CHUNKED + b"\r\nhello\r\n" + END),
    refused("chunk-extension-only", CHUNKED + b";a\r\nhello\r\n" + END),
    refused("chunk-overflow", CHUNKED + b"10000000000000005\r\nhello\r\n" + END),
    refused("chunk-bare-lf", CHUNKED + b"5\nhello\r\n" + END),
    refused("chunk-bare-cr", CHUNKED + b"5\rhello\r\n" + END),
    refused("chunk-lf-cr", CHUNKED + b"5\n\rhello\r\n" + END),
    refused("chunk-extension-bare-lf", CHUNKED + b"5;a\nhello\r\n" + END),
    refused("chunk-extension-bare-cr", CHUNKED + b"5;a\rhello\r\n" + END),
    refused("chunk-extension-nul", CHUNKED + b"5;a\x00\r\nhello\r\n" + END),
    refused("chunk-data-no-crlf", CHUNKED + b"5\r\nhello0\r\n\r\n"),
    refused("chunk-data-bare-lf", CHUNKED + b"5\r\nhello\n" + END),
    refused("chunk-data-bare-cr", CHUNKED + b"5\r\nhello\r0\r\n\r\n"),
    refused("chunk-data-too-long", CHUNKED + b"4\r\nhello\r\n" + END),
    refused("chunk-data-any-two-bytes", CHUNKED + b"5\r\nhelloXX" + END),
    refused("last-chunk-bare-lf", CHUNKED + b"0\n\r\n"),
    refused("last-chunk-end-bare-lf", CHUNKED + b"0\r\n\n" + SMUGGLED),
    refused("last-chunk-end-bare-cr", CHUNKED + b"0\r\n\rGET"),
    refused("trailer-bare-lf", CHUNKED + b"0\r\nX: y\n\r\n"),
    refused("trailer-end-bare-lf", CHUNKED + b"0\r\nX: y\r\n\n" + SMUGGLED),
    refused("trailer-folded", CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n"),
    refused("trailer-empty-name", CHUNKED + b"0\r\n: y\r\n\r\n"),
    refused("trailer-blank-before-colon", CHUNKED + b"0\r\nX : y\r\n\r\n"),
    refused("trailer-is-a-request", CHUNKED + b"0\r\n" + SMUGGLED),
    # Header lines (section 5)
    refused("folded", GET + b"X: a\r\n b\r\n\r\n"),
    refused("folded-first", LINE + b" X: a\r\n" + HOST + b"\r\n"),
    refused("folded-empty", GET + b"X:\r\n \r\n\r\n"),
    refused("name-empty", GET + b": a\r\n\r\n"),
    refused("name-blank", GET + b"X Y: a\r\n\r\n"),
    refused("name-nul", GET + b"X\x00: a\r\n\r\n"),
    refused("name-high-byte", GET + b"X\x80: a\r\n\r\n"),
    refused("name-parenthesis", GET + b"X(y): a\r\n\r\n"),
    refused("no-colon", GET + b"X\r\n\r\n"),
    refused("value-nul", GET + b"X: a\x00b\r\n\r\n"),
    refused("value-bare-cr", GET + b"X: a\rb\r\n\r\n"),
    refused("value-cr-cr-lf", GET + b"X: a\r\r\n\r\n"),
    refused("line-bare-lf", GET + b"X: a\nY: b\r\n\r\n"),
    refused("end-bare-lf", GET + b"\n" + SMUGGLED),
    refused("end-bare-lf-twice", GET + b"X: a\n\n" + SMUGGLED),
    refused("all-bare-lf", b"GET / HTTP/1.1\nHost: a\n\n" + SMUGGLED),
    # Host (section 3.2)
    refused("no-host", LINE + b"\r\n"),
    refused("two-hosts", GET + b"Host: b\r\n\r\n"),
    refused("two-equal-hosts", GET + HOST + b"\r\n"),
    refused("host-list", LINE + b"Host: a, b/\r\n\r\n"),
    refused("host-path", LINE + b"Host: a/b\r\n\r\n"),
    refused("host-user", LINE + b"Host: u@a\r\n\r\n"),
    refused("host-blank-before-colon", LINE + b"Host : a\r\n\r\n"),
    refused("no-host-absolute", b"GET http://a/ HTTP/1.1\r\n\r\n"),
    # The request line (section 3)
    refused("two-blanks", b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("tab", b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("blank-before", b" GET / HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("blank-behind", b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n"),
    refused("blank-in-target", b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("no-version", b"GET /\r\n" + HOST + b"\r\n"),
    refused("version-0.9", b"GET / HTTP/0.9\r\n" + HOST + b"\r\n"),
    refused("version-1.2", b"GET / HTTP/1.2\r\n" + HOST + b"\r\n"),
    refused("version-2.0", b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    refused("version-lower-case", b"GET / http/1.1\r\n" + HOST + b"\r\n"),
    refused("version-long", b"GET / HTTP/1.10\r\n" + HOST + b"\r\n"),
    refused("target-nul", b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("target-high-byte", b"GET /\xc3\xa4 HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("line-bare-cr", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    refused("method-unknown", b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    refused("method-lower-case", b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    refused("connect", b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED, 501),
    refused("http-2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("tls-hello", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"),
    refused("expect-unknown", POST + b"Expect: x\r\nContent-Length: 35\r\n\r\n" + SMUGGLED, 417),
    # What other servers were found to take
    refused("CVE-2023-30589", GET + b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + END),
    refused("CVE-2024-27982", GET + b" Content-Length: 35\r\n\r\n" + SMUGGLED),
    refused("CVE-2022-35256", GET + b"X: a\nTransfer-Encoding: chunked\r\n\r\n" + END),
    refused("CVE-2019-16276", GET + b"Transfer-Encoding : chunked\r\n\r\n" + END),
    refused("CVE-2020-7238", POST + b"Transfer-Encoding:\x0bchunked\r\nContent-Length: 35\r\n"
            b"\r\n" + SMUGGLED),
]


@pytest.fixture(name="echo", scope="module")
def echo_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stator]:
    with Stator(tmp_path_factory.mktemp("echo"), "echo") as s:
        yield s


def send_whole(c: Connection, data: bytes) -> None:
    c.send(data)


def send_halves(c: Connection, data: bytes) -> None:
    middle = len(data) * 2 // 3
    c.send(data[:middle])
    time.sleep(0.003)
    c.send(data[middle:])


def send_bytes(c: Connection, data: bytes) -> None:
    for i in range(len(data)):
        try:
            c.send(data[i:i + 1])
        except (BrokenPipeError, ConnectionResetError):
            return  # refused and closed before the end: as it should be


WAYS = [send_whole, send_halves, send_bytes]


def read_all(c: Connection) -> list[Response]:
    """Answers until the peer closes; a reset behind the last one is a close."""
    answers = []
    while True:
        try:
            answers.append(c.read_response())
        except Closed as closed:
            assert not closed.got, closed
            return answers


@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("row", TAKEN, ids=lambda r: r.name)
def test_taken(echo: Stator, row: Row, way) -> None:
    """With its body, and what follows is the next request."""
    with echo.connect() as c:
        way(c, row.sent + (b"" if row.closes else CANARY))
        for body in row.bodies:
            answer = c.read_response()
            assert (answer.status, answer.body) == (200, body)
            assert answer.closes == row.closes
        if row.closes:
            assert c.is_closed()
        else:
            assert c.read_response().status == 200
            assert c.is_quiet(0.005)


@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("row", REFUSED, ids=lambda r: r.name)
def test_refused(echo: Stator, row: Row, way) -> None:
    """Once, and the connection ends: nothing behind it is a request."""
    handled = echo.metric("nuclio_processor_handled_events_total")
    with echo.connect() as c:
        way(c, row.sent + CANARY)
        answers = read_all(c)
    assert [(a.status, a.closes) for a in answers] == [(row.refusal, True)]
    assert answers[0].header("Content-Type") == "text/plain; charset=utf-8"
    assert echo.metric("nuclio_processor_handled_events_total") == handled


@pytest.mark.parametrize("row", REFUSED, ids=lambda r: r.name)
def test_refused_behind_another(echo: Stator, row: Row) -> None:
    """What came before is answered before."""
    with echo.connect() as c:
        c.send(POST + b"Content-Length: 5\r\n\r\nfirst" + row.sent + CANARY)
        answers = read_all(c)
    assert [(a.status, a.closes) for a in answers] == [(200, False), (row.refusal, True)]
    assert answers[0].body == b"first"
