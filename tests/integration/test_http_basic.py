"""What ordinary clients do: methods, paths, headers, bodies, keep-alive, pipelines, addresses."""

import re
import socket
import time

import pytest
from http_raw import Connection, Response, build_request
from stator_proc import patience

KNOWN_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PURGE",
                 "REPORT"]


def described(answer: Response) -> dict[str, str]:
    """What the handler `describe` says, by name."""
    return dict(line.split("=", 1) for line in answer.body.decode().splitlines())


# Methods and replies

@pytest.mark.parametrize("method", KNOWN_METHODS)
def test_methods_reach_the_handler(shared, method):
    answer = shared("describe").request(method, "/x", b"" if method in ("POST", "PUT") else None)
    assert answer.status == 200
    assert described(answer)["method"] == method


@pytest.mark.parametrize("method", ["FOO", "get", "GETS", "CONNECT", "BREW"])
def test_unknown_method_is_501(shared, method):
    target = "test:80" if method == "CONNECT" else "/"
    with shared("describe").connect() as c:
        answer = c.ask(method, target)
        assert (answer.status, answer.closes) == (501, True)
        assert c.is_closed()


def test_reply_has_these_headers_and_no_others(shared):
    answer = shared("hello").get()
    names = [name for name, _ in answer.headers]
    assert names == ["Server", "Date", "Content-Type", "Content-Length"]
    assert answer.header("Server") == "stator"
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    date = time.strptime(answer.header("Date"), "%a, %d %b %Y %H:%M:%S GMT")
    assert abs(time.time() - time.mktime(date) + time.timezone) < patience(5)
    assert answer.raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.body == b"Hello, world!"


def test_head_has_the_length_and_no_body(shared):
    with shared("hello").connect() as c:
        answer = c.ask("HEAD")
        assert (answer.status, answer.header("Content-Length")) == (200, "13")
        assert c.ask("GET").body == b"Hello, world!"  # nothing of a body lay between


def test_empty_reply_has_length_0_and_no_type(shared):
    answer = shared("outcome").post(b"empty")
    assert answer.header("Content-Length") == "0"
    assert answer.header("Content-Type") is None


def test_end_of_a_stream_to_1_0(shared):
    """It ends with the connection: well, or by a reset where something is missing."""
    s = shared("stream")
    with s.connect() as c:
        c.send(build_request("GET", "/?64", version="1.0"))
        assert len(c.read_to_end().partition(b"\r\n\r\n")[2]) == 64 * 1024
    with s.connect() as c:
        c.send(build_request("GET", "/?cut", version="1.0"))
        with pytest.raises(ConnectionResetError):
            while c.socket.recv(4096):
                pass


# Requests as the handler sees them

def test_headers_arrive_in_order_with_repeats(shared):
    sent = [("Host", "test"), ("X-One", "1"), ("x-two", "a, b"), ("X-One", "2"), ("X-Empty", ""),
            ("X-Blanks", "a  b\tc"), ("X-Latin", "caf\xe9")]
    answer = shared("headers").get(headers=sent)
    lines = answer.body.decode("latin-1").splitlines()
    assert lines == [f"{name}: {value}" for name, value in sent]
    assert answer.all("X-One") == ["1", "2"]
    assert answer.all("X-Latin") == ["caf\xe9"]


def test_echoed_framing_headers_do_no_harm(shared):
    """Functions send all request headers back: those about the connection are the server's."""
    sent = [("Host", "test"), ("Content-Length", "5"), ("Connection", "keep-alive"),
            ("Server", "mine"), ("Date", "yesterday"), ("TE", "trailers")]
    with shared("headers").connect() as c:
        answer = c.ask("POST", "/", b"12345", sent)
        assert int(answer.header("Content-Length")) == len(answer.body) != 5
        assert answer.header("Server") == "stator"
        assert answer.header("Date") != "yesterday"
        assert answer.header("Transfer-Encoding") is None
        assert c.ask("GET").status == 200


@pytest.mark.parametrize("target, path, query", [
    ("/", "/", ""),
    ("/a%20b/%C3%A9?x=%20&y=1&x=2", "/a b/\xe9", "x=%20&y=1&x=2"),
    ("/a%2Fb", "/a/b", ""),
    ("//a///b", "/a/b", ""),
    ("/a/./b/../c", "/a/c", ""),
    ("/../../etc", "/etc", ""),
    ("/a/", "/a/", ""),
    ("/a;x=1", "/a;x=1", ""),
    ("/?", "/", ""),
    ("/a?b?c", "/a", "b?c"),
    ("http://other.example:81/a/b?c=d", "/a/b", "c=d"),
    ("http://other.example", "/", ""),
])
def test_target_path_and_query(shared, target, path, query):
    answer = shared("describe").get(target)
    assert answer.status == 200
    said = described(answer)
    assert (said["target"], said["path"], said["query"]) == (target, path, query)


def test_event_fields(shared):
    with shared("describe").connect() as c:
        said = described(c.ask("POST", "/", b"body", [("X-Test", "1"), ("x-test", "2"),
                                                      ("Content-Type", "a/b; c=d")]))
        host, port = c.socket.getsockname()
    assert said["peer"] == f"{host}:{port}"
    assert said["trigger_kind"] == said["trigger_name"] == "http"
    assert said["content_type"] == "a/b; c=d"
    assert said["x-test"] == "2"
    assert said["body"] == "body"
    assert said["shard"] == "-1"
    assert said["attempt"] == "1"
    assert said["time_left_ms"] == "-1"
    assert abs(int(said["timestamp_ns"]) / 1e9 - time.time()) < patience(5)


@pytest.mark.parametrize("handler", ["echo", "echo_blocking"])
@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream", "text/html",
                                  "x/" + "y" * 700])
def test_content_types(shared, handler, kind):
    answer = shared(handler).post(b"\x00\xff{}", headers=[("Content-Type", kind)])
    assert (answer.header("Content-Type"), answer.body) == (kind, b"\x00\xff{}")


# Bodies

@pytest.mark.parametrize("handler", ["echo", "echo_blocking"])
@pytest.mark.parametrize("size", [0, 1, 2048, 2049, 65535, 65536, 300_000, 4 << 20])
def test_bodies_come_back_whole(shared, handler, size):
    body = bytes(i * 7 % 251 for i in range(4096)) * (size // 4096 + 1)
    answer = shared(handler).post(body[:size])
    assert answer.status == 200
    assert answer.body == body[:size]


def test_chunked_body(shared):
    with shared("echo").connect() as c:
        c.send(build_request("POST", headers=[("Transfer-Encoding", "chunked")]))
        for piece in (b"a" * 70_000, b"b", b"c" * 5000):
            c.send(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece))
        c.send(b"0\r\nX-Trailer: 1\r\n\r\n")
        assert c.read_response().body == b"a" * 70_000 + b"b" + b"c" * 5000
        assert c.ask("POST", "/", b"next").body == b"next"


def test_bytes_one_by_one(shared):
    with shared("echo").connect() as c:
        for byte in build_request("POST", "/slow", b"0123456789", [("X-A", "b")]):
            c.send(bytes([byte]))
        assert c.read_response().body == b"0123456789"


def test_body_limit_is_413(start):
    s = start("echo", attributes={"maxRequestBodySize": 1000})
    assert s.post(b"x" * 1000).status == 200
    with s.connect() as c:
        # Known by the length: refused before the body is there.
        c.send(build_request("POST", headers=[("Content-Length", "1001")]))
        answer = c.read_response()
        assert (answer.status, answer.closes) == (413, True)
        assert c.is_closed()
    with s.connect() as c:
        c.send(build_request("POST", headers=[("Transfer-Encoding", "chunked")]))
        c.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\ny\r\n")
        assert c.read_response().status == 413
    # The client may still be sending: it must see the answer and no reset.
    with s.connect() as c:
        c.send(build_request("POST", body=b"x" * 500_000))
        assert c.read_response().status == 413
        assert c.is_closed()
    assert s.get().status == 200


def test_head_limits_are_431_and_414(start):
    s = start("echo", attributes={"readBufferSize": 2048})
    fits = build_request("GET", headers=[("X", "y" * 1900)])
    assert len(fits) < 2048
    with s.connect() as c:
        c.send(fits)
        assert c.read_response().status == 200
        c.send(build_request("GET", headers=[("X", "y" * 2048)]))
        answer = c.read_response()
        assert (answer.status, answer.body) == (431, b"Too big request header")
        assert c.is_closed()
    assert s.get("/" + "u" * 2048).status == 414
    with s.connect() as c:
        c.send(b"GET /" + b"u" * 3000)  # no end of line in sight
        assert c.read_response().status == 414
    with s.connect() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 3000)
        assert c.read_response().status == 431


def test_too_many_headers_are_431(shared):
    headers = [(f"X{i}", "1") for i in range(254)]
    s = shared("headers")
    assert s.get(headers=headers).status == 200  # and Host
    assert s.get(headers=[*headers, ("X", "1")]).status == 431


# Connections

@pytest.mark.parametrize("handler", ["echo", "echo_blocking"])
def test_keep_alive(shared, handler):
    with shared(handler).connect() as c:
        for i in range(50):
            answer = c.ask("POST", "/", b"%d" % i)
            assert answer.body == b"%d" % i
            assert answer.header("Connection") is None
        answer = c.ask("POST", "/", b"last", [("Connection", "close")])
        assert (answer.body, answer.closes) == (b"last", True)
        assert c.is_closed()


@pytest.mark.parametrize("handler", ["echo", "echo_blocking"])
def test_pipeline_is_answered_in_order(shared, handler):
    n = 1000
    with shared(handler).connect() as c:
        c.send(b"".join(build_request("POST", "/", b"%d" % i) for i in range(n)))
        assert [c.read_response().body for _ in range(n)] == [b"%d" % i for i in range(n)]


def test_pipeline_of_slow_and_fast_keeps_its_order(shared):
    """Four workers: later ones are done first and have to wait for their turn."""
    delays = [200, 0, 0, 100, 0, 5, 0, 50, 0, 0] * 2
    with shared("sleep").connect() as c:
        c.send(b"".join(build_request("POST", "/", b"%d" % ms) for ms in delays))
        assert [int(c.read_response().body) for _ in delays] == delays


def test_nothing_follows_connection_close(shared):
    with shared("echo").connect() as c:
        c.send(build_request("POST", "/", b"1") +
               build_request("POST", "/", b"2", [("Connection", "close")]) +
               build_request("POST", "/", b"3"))
        assert [c.read_response().body for _ in range(2)] == [b"1", b"2"]
        assert c.is_closed()


def test_client_that_ends_its_input_gets_its_answers(shared):
    with shared("sleep").connect() as c:
        c.send(build_request("POST", "/", b"100") + build_request("POST", "/", b"0"))
        c.end_input()
        assert [c.read_response().body for _ in range(2)] == [b"100", b"0"]
        assert c.is_closed()


def test_expect_100_continue(shared):
    with shared("echo").connect() as c:
        c.send(build_request("POST", headers=[("Content-Length", "4"),
                                              ("Expect", "100-continue")]))
        interim = c.read_head()
        assert (interim.status, interim.headers) == (100, [])
        c.send(b"body")
        assert c.read_response().body == b"body"
        # A client that does not wait needs none.
        answer = c.ask("POST", "/", b"now", [("Expect", "100-continue")])
        assert (answer.body, answer.interim) == (b"now", [])
        answer = c.ask("POST", "/", b"", [("Expect", "100-continue")])
        assert (answer.status, answer.interim) == (200, [])
        assert c.ask("POST", "/", b"x", [("Expect", "wonders")]).status == 417


def test_refused_instead_of_continued(start):
    """The body that would be too large is not asked for."""
    s = start("echo", attributes={"maxRequestBodySize": 10})
    with s.connect() as c:
        c.send(build_request("POST", headers=[("Content-Length", "11"),
                                              ("Expect", "100-continue")]))
        answer = c.read_response()
        assert (answer.status, answer.interim) == (413, [])


def test_http_1_0(shared):
    s = shared("echo")
    with s.connect() as c:
        c.send(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")  # Host is not needed
        answer = c.read_response()
        assert (answer.body, answer.closes) == (b"hi", True)
        assert c.is_closed()
    with s.connect() as c:
        for body in (b"one", b"two"):
            c.send(build_request("POST", "/", body, [("Connection", "keep-alive")], "1.0"))
            answer = c.read_response()
            assert (answer.body, answer.header("Connection")) == (body, "keep-alive")


# Addresses

@pytest.mark.parametrize("loops", [1, 3])
def test_unix_socket(start, tmp_path, loops):
    s = start("describe", url=f"unix:{tmp_path}/s", own={"loops": loops})
    path = tmp_path / "s"
    assert path.is_socket()
    for _ in range(8):
        said = described(s.get("/p"))
        assert (said["path"], said["peer"]) == ("/p", "")
    s.stop()
    assert not path.exists()


def test_unix_socket_that_a_crash_left_is_taken_over(start, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert start("hello", url=f"unix:{path}").get().status == 200


def test_ipv4_and_ipv6(start):
    s = start("describe", url=":0")
    peers = set()
    for address in (("127.0.0.1", s.port), ("::1", s.port)):
        with Connection(address, patience(10)) as c:
            peers.add(described(c.ask("GET"))["peer"].rpartition(":")[0])
    assert peers == {"127.0.0.1", "[::1]"}


def test_ipv6_only_address(start):
    s = start("hello", url="[::1]:0")
    with Connection(("::1", s.port), patience(10)) as c:
        assert c.ask("GET").status == 200
    with pytest.raises(ConnectionRefusedError):
        Connection(("127.0.0.1", s.port), patience(10))


def test_health_path_is_internal(start):
    """It is answered without the handler, with every method, and is not counted."""
    s = start("describe")
    for method in ("GET", "POST", "HEAD", "DELETE"):
        for target in ("/__internal/health", "/__internal/health/x?y", "/__internal/%68ealth"):
            answer = s.request(method, target, b"x" if method == "POST" else None)
            assert (answer.status, answer.body) == (200, b"")
    assert s.get("/__internal/healt").body != b""
    s.wait_metric(1, "nuclio_processor_handled_events_total")
    assert s.metric("nuclio_processor_worker_allocation_count") == 1


def test_event_ids_are_uuid7_and_unique(shared):
    """From two loops, in the order of time on each connection."""
    s = shared("describe")
    seen: set[str] = set()
    for _ in range(4):
        with s.connect() as c:
            c.send(build_request("GET") * 100)
            ids = [described(c.read_response())["id"] for _ in range(100)]
        assert ids == sorted(ids)
        seen.update(ids)
    assert len(seen) == 400
    form = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
    for event_id in seen:
        assert form.fullmatch(event_id)
        assert abs(int(event_id.replace("-", "")[:12], 16) / 1000 - time.time()) < patience(20)
