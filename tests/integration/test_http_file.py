"""A file as the body of a reply, named by a header of it. The handlers send request headers back,
so each test says in its request which file it wants."""

import os
import time
from pathlib import Path

import pytest
from http_raw import Closed, build_request
from stator_proc import STRAYS, Stator, patience, wait_until

PATH, REMOVE = "X-nuclio-filestream-path", "X-nuclio-filestream-delete-after-send"


def pattern(size: int) -> bytes:
    """Bytes in which each place can be told from the others."""
    block = b"".join(i.to_bytes(4, "little") for i in range(1 << 14))
    return (block * (size // len(block) + 1))[:size]


def make(folder: Path, size: int, name: str = "file.bin") -> Path:
    path = folder / name
    path.write_bytes(pattern(size))
    return path


def open_files(s: Stator, path: Path) -> int:
    """How many descriptors of the processor are that file."""
    found = 0
    for fd in Path(f"/proc/{s.pid}/fd").iterdir():
        try:
            found += os.readlink(fd).removesuffix(" (deleted)") == str(path)
        except FileNotFoundError:
            pass
    return found


@pytest.fixture(name="server", scope="module", params=["headers", "headers_blocking"])
def server_fixture(shared, request):
    """The same handler inline and on threads."""
    return shared(request.param)


@pytest.mark.parametrize("size", [0, 1, 1000, 65535, 65536, 65537, 262144, 300000, 5 << 20])
def test_sizes(server, tmp_path, size):
    """The whole file, chunked, and nothing of the handler's own body."""
    path = make(tmp_path, size)
    with server.connect() as c:
        for _ in range(2):      # the connection lives on
            answer = c.ask("GET", headers=[(PATH, str(path)), ("X-Mine", "1")])
            assert answer.status == 200 and answer.body == pattern(size)
            assert answer.header("Transfer-Encoding") == "chunked"
            assert answer.header("X-Mine") == "1" and answer.header(PATH) is None
            assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert path.exists()


@pytest.mark.parametrize("name", [PATH.lower(), PATH.upper(), "X-Nuclio-FileStream-Path"])
def test_any_case(server, tmp_path, name):
    """Header names have no case."""
    assert server.get(headers=[(name, str(make(tmp_path, 10)))]).body == pattern(10)


def test_missing(server, tmp_path):
    """404 without a body; what else the handler set stays."""
    with server.connect() as c:
        answer = c.ask("GET", headers=[(PATH, str(tmp_path / "none")), ("X-Mine", "1")])
        assert (answer.status, answer.body) == (404, b"") and answer.header("X-Mine") == "1"
        assert answer.header("Content-Type") is None and answer.header(PATH) is None
        assert c.ask("GET").status == 200


def test_no_regular_file(server, tmp_path):
    """What can't be opened or read as a file is 500; a FIFO does not block."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    make(tmp_path, 1)
    for name in ("fifo", "loop", "", "file.bin/x", "x" * 300):
        answer = server.get(headers=[(PATH, f"{tmp_path}/{name}")])
        assert (answer.status, answer.body) == (500, b""), name
    assert server.wait_log("Failed to open file")["path"]


def test_empty_path(server):
    """No path, no file: the handler's body, without our headers."""
    answer = server.get(headers=[(PATH, ""), (REMOVE, "1")])
    assert answer.status == 200 and b"Host: test" in answer.body
    assert answer.header(PATH) is None and answer.header(REMOVE) is None


@pytest.mark.parametrize("size", [0, 100, 3 << 20])
def test_remove(server, tmp_path, size):
    """The mere presence of the header removes the file, once it is sent."""
    path = make(tmp_path, size)
    assert server.get(headers=[(PATH, str(path)), (REMOVE, "")]).body == pattern(size)
    wait_until(lambda: not path.exists(), what="removed")


def test_head(server, tmp_path):
    """HEAD has the head only, and the file is done with."""
    path = make(tmp_path, 1 << 20)
    with server.connect() as c:
        answer = c.ask("HEAD", headers=[(PATH, str(path)), (REMOVE, "1")])
        assert answer.status == 200 and answer.body == b""
        assert c.ask("GET").status == 200
    wait_until(lambda: not path.exists(), what="removed")
    assert open_files(server, path) == 0


def test_http_10(server, tmp_path):
    """Without chunks: the end of the connection is the end of the file."""
    path = make(tmp_path, 1 << 20)
    with server.connect() as c:
        c.send(build_request("GET", "/", headers=[(PATH, str(path))], version="1.0"))
        answer = c.read_response()
    assert answer.body == pattern(1 << 20) and answer.closes


def test_pipeline(server, tmp_path):
    """Files keep their order among other replies."""
    big, small = make(tmp_path, 2 << 20, "big"), make(tmp_path, 10, "small")
    with server.connect() as c:
        c.send(b"".join(build_request("GET", "/", headers=[(PATH, str(p))] if p else [("X", "y")])
                        for p in (big, None, small, big, tmp_path / "none", None)))
        answers = [c.read_response() for _ in range(6)]
    assert [a.status for a in answers] == [200, 200, 200, 200, 404, 200]
    assert answers[0].body == answers[3].body == pattern(2 << 20)
    assert answers[2].body == pattern(10) and b"X: y" in answers[1].body


def test_many_at_once(server, tmp_path):
    """Several clients of one big file."""
    path = make(tmp_path, 8 << 20)
    clients = [server.connect() for _ in range(8)]
    try:
        for c in clients:
            c.send(build_request("GET", "/", headers=[(PATH, str(path))]))
        for c in clients:
            assert c.read_response().body == pattern(8 << 20)
    finally:
        for c in clients:
            c.close()
    wait_until(lambda: open_files(server, path) == 0, what="closed")


@pytest.mark.parametrize("remove", [False, True])
def test_client_leaves(server, tmp_path, remove):
    """The file is closed, and removed if it was to be; others are served."""
    path = make(tmp_path, 64 << 20)
    headers = [(PATH, str(path))] + ([(REMOVE, "1")] if remove else [])
    for _ in range(1 if remove else 3):
        c = server.connect(rcvbuf=65536)
        c.send(build_request("GET", "/", headers=headers))
        assert c.read_head().status == 200
        c.reset()
        wait_until(lambda: open_files(server, path) == 0, what="closed")
    wait_until(lambda: path.exists() != remove, what="removed or not")
    assert server.get().status == 200


def test_behind_a_client_that_leaves(server, tmp_path):
    """A file whose turn never comes is let go as well."""
    path = make(tmp_path, 16 << 20)
    c = server.connect(rcvbuf=65536)
    c.send(build_request("GET", "/", headers=[(PATH, str(path))]) * 3)
    assert c.read_head().status == 200
    # The third is not read while the others fill the connection's output.
    wait_until(lambda: open_files(server, path) >= 2, what="two are open")
    c.reset()
    wait_until(lambda: open_files(server, path) == 0, what="closed")


def test_slow_client(server, tmp_path):
    """It costs no memory by the size of the file, and others are served meanwhile."""
    path = make(tmp_path, 96 << 20)
    before = server.memory()
    with server.connect(rcvbuf=65536) as c:
        c.send(build_request("GET", "/", headers=[(PATH, str(path))]))
        assert c.read_head().status == 200
        time.sleep(0.3)
        start = time.monotonic()
        for _ in range(20):
            assert server.get().status == 200
        assert time.monotonic() - start < patience(5)
        grown = server.memory() - before
        assert grown < (16 << 20) * (3 if os.environ.get("STATOR_SANITIZER") else 1), grown


def test_shrinks(server, tmp_path):
    """A file that ends early ends the reply there."""
    path = make(tmp_path, 64 << 20)
    with server.connect(rcvbuf=65536) as c:
        c.send(build_request("GET", "/", headers=[(PATH, str(path))]))
        wait_until(lambda: open_files(server, path) == 1, what="open")
        os.truncate(path, 1 << 20)
        body = c.read_response().body
    assert len(body) < 64 << 20 and body == pattern(64 << 20)[:len(body)]


def test_stop_meanwhile(start, tmp_path):
    """SIGTERM waits for a file that is being read; one that nobody reads ends with the grace."""
    path = make(tmp_path, 32 << 20)
    s = start("headers", trigger={"workerTerminationTimeout": "1s"})
    with s.connect(rcvbuf=65536) as c, s.connect(rcvbuf=65536) as stuck:
        for client in (c, stuck):
            client.send(build_request("GET", "/", headers=[(PATH, str(path)), (REMOVE, "1")]))
            assert client.read_head().status == 200
        s.signal()
        c.buffer.clear()
        with pytest.raises(Closed):
            while True:
                c.read_some(1 << 16)
        assert s.wait() == 0
    assert not path.exists()


def test_head_and_timeout(start):
    """408 to HEAD: its body is dropped, the processor lives."""
    s = start("hang", env=STRAYS, workers=1, spec={"eventTimeout": "200ms"})
    assert s.request("HEAD", body=b"hang 500", timeout=patience(20)).status == 408
    assert s.post(b"well").body == b"alive"
