"""stator invoke and stator health: what is sent, what is shown, and with which status they end."""

import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest
from stator_proc import BINARY, patience, run_cli, wait_until

GIVE_UP = 60    # seconds


def stator(*words: str, data: bytes = b"", **options) -> subprocess.CompletedProcess[bytes]:
    """A run of the program to its end, in bytes."""
    return subprocess.run([str(BINARY), *words], input=data, capture_output=True,
                          timeout=GIVE_UP, check=False, **options)


def url_of(s, path: str = "/") -> str:
    return f"http://127.0.0.1:{s.port}{path}"


@pytest.fixture(name="peer")
def peer_fixture():
    """peer(bytes, ...): a port whose n-th client gets the n-th answer and a close; what the clients
    sent is in peer.got. None: a reset without an answer. An Event: silence until it is set."""
    with contextlib.ExitStack() as stack:
        class Peer:
            """One listener and its thread."""

            def __init__(self):
                self.got = []
                self.listener = stack.enter_context(socket.socket())

            def __call__(self, *answers) -> str:
                self.listener.bind(("127.0.0.1", 0))
                self.listener.listen(8)
                self.listener.settimeout(GIVE_UP)
                thread = threading.Thread(target=self.serve, args=(answers,), daemon=True)
                thread.start()
                stack.callback(thread.join, GIVE_UP)
                return f"http://127.0.0.1:{self.listener.getsockname()[1]}/x"

            def serve(self, answers):
                """Each answer to one client."""
                for answer in answers:
                    client, _ = self.listener.accept()
                    with client:
                        self.got.append(client.recv(1 << 20))
                        if isinstance(answer, threading.Event):
                            answer.wait(GIVE_UP)
                        elif isinstance(answer, bytes):
                            with contextlib.suppress(OSError):  # it may have heard enough
                                for i in range(0, len(answer), 7):
                                    client.sendall(answer[i:i + 7])

        yield Peer()


# ---- invoke: requests ----

def test_get(shared):
    """Without more than a URL: GET, and the body as it came."""
    done = stator("invoke", "--url", url_of(shared("describe"), "/a/b?c=d"))
    assert done.returncode == 0 and done.stderr == b""
    said = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
    assert said["method"] == "GET" and said["path"] == "/a/b" and said["query"] == "c=d"


def test_port(shared):
    """--port asks this machine."""
    s = shared("echo")
    done = stator("invoke", "--port", str(s.port), "-d", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello", b"")


@pytest.mark.parametrize("form", ["{}:{}", "{}:{}/", "http://{}:{}", "HTTP://{}:{}/?a=b#c"])
def test_url_forms(shared, form):
    """With and without scheme, path and fragment."""
    done = stator("invoke", "--url", form.format("localhost", shared("echo").port), "-d", "x")
    assert (done.returncode, done.stdout) == (0, b"x"), done.stderr


def test_unix_socket(start, tmp_path):
    """unix:/path, for functions that listen there."""
    s = start("echo", url=f"unix:{tmp_path}/s")
    assert s.address
    done = stator("invoke", "--url", f"unix:{tmp_path}/s", "-d", "there")
    assert (done.returncode, done.stdout) == (0, b"there")


def test_method_and_headers(shared):
    """-X and -H, the latter in order and repeated."""
    done = stator("invoke", "--url", url_of(shared("headers")), "-X", "PUT", "-H", "X-A: 1",
                  "-H", "x-b:2", "-H", "X-A:\t3 4", "-H", "X-Empty:", "-d", "")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0
    assert [line for line in lines if line.lower().startswith("x-")] == [
        "X-A: 1", "x-b: 2", "X-A: 3 4", "X-Empty: "]
    assert f"Host: 127.0.0.1:{shared('headers').port}" in lines
    assert "Content-Length: 0" in lines
    done = stator("invoke", "--url", url_of(shared("headers")), "-H", "host: other")
    assert [x for x in done.stdout.decode().splitlines() if x.lower().startswith("host")] == [
        "host: other"]


def test_head(shared):
    """No body comes, whatever the length says."""
    done = stator("invoke", "--url", url_of(shared("echo")), "-X", "HEAD", "-d", "12345")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("size", [0, 1, 100000, 3 << 20])
def test_data(shared, tmp_path, size):
    """From the command line, a file and standard input; nothing is changed."""
    body = os.urandom(size)
    (tmp_path / "f").write_bytes(body)
    url = url_of(shared("echo_blocking"))
    assert stator("invoke", "--url", url, "-d", f"@{tmp_path}/f").stdout == body
    assert stator("invoke", "--url", url, "-d", "-", data=body).stdout == body


# ---- invoke: answers ----

def test_status(shared):
    """1 for anything but 2xx, with the body on stdout all the same."""
    url = url_of(shared("outcome"))
    done = stator("invoke", "--url", url, "-d", "error-418")
    assert (done.returncode, done.stdout) == (1, b"I am a teapot")
    assert done.stderr.startswith(b"stator: status 418")
    assert stator("invoke", "--url", url, "-d", "last-reply").returncode == 0      # 202


def test_chunked(shared):
    """Streamed answers of any size."""
    done = stator("invoke", "--url", url_of(shared("stream"), "/?300"))
    assert done.returncode == 0
    assert done.stdout == bytes(i % 251 for i in range(300 * 1024))


def test_cut(shared):
    """An answer that ends early is none."""
    done = stator("invoke", "--url", url_of(shared("stream"), "/?cut"))
    assert done.returncode == 3 and done.stdout == b""
    assert b"amid its answer" in done.stderr or b"broke" in done.stderr     # FIN or RST


@pytest.mark.parametrize("answer, body", [
    (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", b"abc"),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
     b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz", b"z"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n", b"abc"),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
])
def test_framings(peer, answer, body):
    """Each way to say where a body ends."""
    done = stator("invoke", "--url", peer(answer))
    assert (done.returncode, done.stdout, done.stderr) == (0, body, b"")


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
                                    b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nA"])
def test_no_whole_answer(peer, answer):
    """3, and one line that says why."""
    done = stator("invoke", "--url", peer(answer))
    assert done.returncode == 3 and done.stdout == b""
    assert done.stderr.startswith(b"stator: ") and done.stderr.count(b"\n") == 1


def test_no_connection(tmp_path):
    """3 where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        done = stator("invoke", "--port", str(free.getsockname()[1]))
    assert done.returncode == 3 and b"no connection" in done.stderr and done.stdout == b""
    assert stator("invoke", "--url", f"unix:{tmp_path}/none").returncode == 3


def test_timeout(peer):
    """One deadline for all of an attempt."""
    silence = threading.Event()
    begin = time.monotonic()
    done = stator("invoke", "--url", peer(silence), "--timeout", "300ms")
    assert time.monotonic() - begin < patience(10)
    silence.set()
    assert done.returncode == 3 and b"within 0.3 s" in done.stderr


def test_refused_body(start):
    """An answer that comes before the body is sent is still shown."""
    s = start("echo", attributes={"maxRequestBodySize": 1000})
    done = stator("invoke", "--url", url_of(s), "-d", "-", data=bytes(4 << 20))
    assert done.returncode == 1 and b"status 413" in done.stderr


def test_retry(peer):
    """503 and a refused connection are tried again, anything else is not."""
    busy, fine = (b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n",
                  b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    done = stator("invoke", "--url", peer(busy, busy, fine), "--retry", "5", "--json", "-d", "b")
    assert done.returncode == 0 and json.loads(done.stdout)["attempts"] == 3
    assert len(peer.got) == 3 and len(set(peer.got)) == 1


def test_retry_ends(peer):
    """The last answer counts."""
    busy = b"HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\nbusy"
    done = stator("invoke", "--url", peer(busy, busy), "--retry", "1")
    assert (done.returncode, done.stdout) == (1, b"busy") and len(peer.got) == 2


def test_broken_is_not_retried(peer):
    """The function may have run: only who asks can know whether it may run twice."""
    done = stator("invoke", "--url", peer(None), "--retry", "3", "--json")
    assert done.returncode == 3 and json.loads(done.stdout)["attempts"] == 1


def test_retry_until_there(start, tmp_path):
    """A function that starts a moment later is waited for."""
    waiting = subprocess.Popen([str(BINARY), "invoke", "--url", f"unix:{tmp_path}/s", "--retry",
                                "100", "-d", "x"], stdout=subprocess.PIPE)
    time.sleep(0.2)
    start("echo", url=f"unix:{tmp_path}/s")
    out, _ = waiting.communicate(timeout=GIVE_UP)
    assert (waiting.returncode, out) == (0, b"x")


# ---- invoke: --json and --logs ----

def test_json(peer):
    """Everything in one object; repeated headers become a list."""
    url = peer(b"HTTP/1.1 404 no\r\nA: 1\r\nB: \xe9\r\na: 2\r\nA: 3\r\nContent-Length: 3\r\n\r\n\xe2\x82\xac")
    done = stator("invoke", "--url", url, "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 1 and done.stderr == b""
    assert said["status"] == 404 and said["body"] == "€" and said["attempts"] == 1
    assert said["headers"] == {"A": ["1", "2", "3"], "B": "é", "Content-Length": "3"}
    assert 0 < said["durationMs"] < GIVE_UP * 1000
    assert re.search(rb'"durationMs": [0-9]+(\.[0-9]{1,6})?,', done.stdout)   # no noise behind it


@pytest.mark.parametrize("body", [b"\xff", b"\xff\x00", b"\xff\x00\x01", bytes(range(256))])
def test_json_bytes(peer, body):
    """What is no UTF-8 comes as base64."""
    url = peer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    said = json.loads(stator("invoke", "--url", url, "--json").stdout)
    assert "body" not in said and base64.b64decode(said["bodyBase64"], validate=True) == body


def test_json_failure(tmp_path):
    """An object, too, when there is nothing to show."""
    done = stator("invoke", "--url", f"unix:{tmp_path}/none", "--json", "--retry", "2")
    said = json.loads(done.stdout)
    assert done.returncode == 3 and "no connection" in said["error"] and said["attempts"] == 3


LOGS = (b'HTTP/1.1 200 OK\r\nX-Nuclio-Logs: [{"level":"info","time":1.5,"name":"t","message":"one",'
        b'"worker_id":3},{"level":"error","message":"two"}]\r\nContent-Length: 2\r\n\r\nok')


def test_logs(peer):
    """On stderr, a line each; the level is asked for."""
    done = stator("invoke", "--url", peer(LOGS), "--logs")
    assert (done.returncode, done.stdout) == (0, b"ok")
    assert done.stderr == b'(I) one {"worker_id": 3}\n(E) two\n'
    assert b"\r\nX-Nuclio-Log-Level: debug\r\n" in peer.got[0]


def test_logs_json(peer):
    """As they came; a level that is given stays."""
    done = stator("invoke", "--url", peer(LOGS), "--logs", "--json", "-H",
                  "x-nuclio-log-level: warn")
    assert [x["message"] for x in json.loads(done.stdout)["logs"]] == ["one", "two"]
    assert peer.got[0].lower().count(b"x-nuclio-log-level") == 1
    assert b"x-nuclio-log-level: warn" in peer.got[0]


@pytest.mark.parametrize("value", [b"", b"no json", b"{}", b"[1, null]"])
def test_strange_logs(peer, value):
    """The answer is shown, whatever the header says."""
    done = stator("invoke", "--logs", "--url", peer(
        b"HTTP/1.1 200 OK\r\nX-Nuclio-Logs: " + value + b"\r\nContent-Length: 2\r\n\r\nok"))
    assert (done.returncode, done.stdout) == (0, b"ok")


# ---- wrong usage ----

@pytest.mark.parametrize("words, said", [
    (["--url", "https://h/"], "TLS"), (["--url", ""], "no URL"), (["--url", "http://"], "no URL"),
    (["--url", "h:0"], "no URL"), (["--url", "h:70000"], "no URL"), (["--url", "[::1"], "no URL"),
    (["--url", "u@h"], "no URL"), (["--url", "h/a b"], "escaped"), (["--url", "unix:"], "socket"),
    (["--url", "unix:/" + 200 * "x"], "socket"), (["--url", "h", "--port", "1"], "not both"),
    (["--port", "0"], "from 1 to 65535"), (["-X", "A B"], "no method"), (["-X", ""], "no method"),
    (["-H", "X"], "NAME:VALUE"), (["-H", ": x"], "no name"), (["-H", "A B: x"], "no name"),
    (["-H", "A: x\r\nB: y"], "character"), (["-H", "content-length: 3"], "itself"),
    (["-d", "@/does/not/exist"], "can't be read"), (["--timeout", "soon"], "duration"),
    (["--timeout", "0s"], "duration"), (["--retry", "-1"], "number"), (["x"], "no argument"),
    (["--ulr", "x"], "did you mean --url"), (["--url"], "needs a value"), (["-X"], "needs a value"),
    (["--json=1"], "takes no value"), (["-z"], "no option -z"),
])
def test_wrong_usage(words, said):
    """Status 2 and one line with what to type."""
    done = run_cli("invoke", *words)
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and "; type: stator invoke" in done.stderr
    assert done.stderr.count("\n") == 1


def test_full_disk(shared):
    """An answer that can't be written is no success."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(BINARY), "invoke", "--url", url_of(shared("echo")), "-d", "x"],
                              stdout=full, stderr=subprocess.PIPE, timeout=GIVE_UP, check=False)
    assert done.returncode == 1 and b"can't be written" in done.stderr


# ---- health ----

def health(s, *words: str) -> subprocess.CompletedProcess[str]:
    return run_cli("health", "--platform-config", f"{s.dir}/{s.name}-platform.yaml", *words)


def test_health(start):
    """0 while it is ready, 1 and why once it is gone."""
    s = start("echo")
    done = health(s)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    s.stop()
    done = health(s)
    assert done.returncode == 1 and done.stderr.startswith("stator: not ready: no connection")


def test_health_port(start):
    """--port, and a listen address of all interfaces."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    s = start("echo", platform={"healthCheck": {"enabled": True,
                                                "listenAddress": f":{port}"}}, ready=False)
    wait_until(lambda: run_cli("health", "--port", str(port)).returncode == 0, what="ready")
    assert health(s).returncode == 0


def test_health_says_why(peer):
    """Another status than 200 is not ready."""
    url = peer(b"HTTP/1.1 503 x\r\nContent-Length: 5\r\n\r\nno w\n")
    done = run_cli("health", "--port", url.split(":")[2].removesuffix("/x"))
    assert done.returncode == 1 and "status 503 no w" in done.stderr
    assert peer.got[0].startswith(b"GET /ready HTTP/1.1\r\n")


def test_health_timeout(peer):
    """A processor that hangs is not ready."""
    silence = threading.Event()
    port = peer(silence).split(":")[2].removesuffix("/x")
    done = run_cli("health", "--port", port, "--timeout", "200ms")
    silence.set()
    assert done.returncode == 1 and "within 0.2 s" in done.stderr


@pytest.mark.parametrize("text, said", [
    ("healthCheck: {enabled: false}\n", "disabled"), ("healthCheck: {enabled: 7}\n", ":1:24: "),
    ("healthCheck: [\n", "platform.yaml:"), (None, "can't be read"),
])
def test_health_configuration(tmp_path, text, said):
    """What is wrong with the file is said."""
    file = tmp_path / "platform.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    done = run_cli("health", "--platform-config", str(file))
    assert done.returncode == 1 and said in done.stderr


@pytest.mark.parametrize("words", [["x"], ["--port", "x"], ["--port", "1", "--platform-config", "f"],
                                   ["--prot", "1"], ["--timeout", "-1s"]])
def test_health_wrong_usage(words):
    """As every command."""
    done = run_cli("health", *words)
    assert done.returncode == 2 and "; type: stator health" in done.stderr


@pytest.mark.parametrize("command, options", [
    ("invoke", ["--url", "--port", "--method", "-X", "--header", "-H", "--data", "-d", "--logs",
                "--timeout", "--retry", "--json"]),
    ("health", ["--port", "--platform-config", "--timeout"]),
])
def test_help(command, options):
    """All options, on stdout."""
    done = run_cli(command, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert f"Usage: stator {command}" in done.stdout
    for option in options:
        assert option in done.stdout
    assert f"\n  {command} " in run_cli("--help").stdout
