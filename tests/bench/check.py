#!/usr/bin/env python3
"""Checks ldgen: its counts against nginx's access log, its verdicts on servers that misbehave."""

import argparse
import json
import re
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import cases
import procs
import subject

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


def whole(body):
    """A response with a Content-Length."""
    return OK % (len(body), body)


def chunked(body):
    """The same in chunks of 5 bytes, with an extension and a trailer."""
    parts = [body[i:i + 5] for i in range(0, len(body), 5)]
    lines = b"".join(b"%x;x=y\r\n%s\r\n" % (len(p), p) for p in parts)
    return (b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n" + lines
            + b"0\r\nChecked: yes\r\n\r\n")


def with_length(length, response):
    """The response with one more Content-Length."""
    return response.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % length, 1)


class Server:
    """Answers the k-th request of each connection with reply(k, body), sent step bytes a time."""

    def __init__(self, reply, step):
        self.reply, self.step = reply, step
        self.heads = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                peer = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream, count = peer.makefile("rb"), 0
        try:
            while line := stream.readline():
                length, head = 0, b""
                while line not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                    head += line
                    line = stream.readline()
                self.heads.append(head)
                answer = self.reply(count, stream.read(length))
                count += 1
                for i in range(0, len(answer), self.step):
                    peer.sendall(answer[i:i + self.step])
                    if self.step < 100:
                        time.sleep(0.0001)
                if b"cut short" in answer:
                    break
        except OSError:
            pass
        stream.close()
        peer.close()


def swapped():
    """A reply function that answers each pair of pipelined requests in the wrong order."""
    kept = []

    def reply(count, body):
        kept.append(body)
        return b"" if count % 2 == 0 else whole(kept.pop()) + whole(kept.pop())
    return reply


HELLO = cases.HELLO.encode()
# name, reply, bytes a send, ldgen options, expected fields of its result
MISBEHAVIOUR = (
    ("one byte a segment", lambda k, b: whole(HELLO), 1, "-n 30 -c 2 -D 3 -e 13", {"done": 30}),
    ("three bytes a segment, chunked", lambda k, b: chunked(b), 3, "-n 20 -c 2 -D 2 -s 64 -E",
     {"done": 20}),
    ("body of 300 kB in odd segments", lambda k, b: whole(b), 4093, "-n 8 -c 2 -s 300000 -E",
     {"done": 8}),
    ("interim response first", lambda k, b: b"HTTP/1.1 100 Continue\r\n\r\n" + whole(HELLO), 9,
     "-n 6 -c 1 -e 13", {"done": 6}),
    ("no content", lambda k, b: b"HTTP/1.1 204 No Content\r\n\r\n", 999, "-n 6 -c 1", {"done": 6}),
    ("status 503", lambda k, b: b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 999,
     "-n 6 -c 1 -e 13", {"done": 6, "non_2xx": 6}),
    ("body too short", lambda k, b: whole(HELLO[1:]), 999, "-n 6 -c 1 -e 13",
     {"done": 0, "bad": 6, "lost": 6}),
    ("echo with one bit changed", lambda k, b: whole(b[:-1] + b"?"), 999, "-n 6 -c 1 -s 64 -E",
     {"bad": 6, "lost": 6}),
    ("answers in the wrong order", swapped(), 999, "-n 2 -c 1 -D 2 -s 64 -E",
     {"bad": 1, "lost": 2}),
    ("an answer too many", lambda k, b: whole(HELLO) * 2, 999, "-n 3 -c 1 -e 13",
     {"done": 3, "bad": 3}),
    ("no framing", lambda k, b: b"HTTP/1.1 200 OK\r\n\r\nHello", 999, "-n 3 -c 1",
     {"bad": 3, "lost": 3}),
    ("two lengths", lambda k, b: with_length(2, whole(b"abc")), 999, "-n 3 -c 1",
     {"bad": 3, "lost": 3}),
    ("length and chunked", lambda k, b: with_length(9, chunked(b)), 999, "-n 3 -c 1 -s 64",
     {"bad": 3, "lost": 3}),
    ("bad chunk size", lambda k, b: chunked(b).replace(b"5;", b"g;"), 999, "-n 3 -c 1 -s 64",
     {"bad": 3, "lost": 3}),
    ("no HTTP at all", lambda k, b: b"+PONG is not HTTP\r\n\r\n", 999, "-n 3 -c 1",
     {"bad": 3, "lost": 3}),
    ("closed inside a body", lambda k, b: OK % (99, b"cut short"), 999, "-n 3 -c 1",
     {"bad": 0, "lost": 3}),
)
# ldgen options, path
NGINX_RUNS = (
    ("-n 20000 -c 7 -D 1 -e 13", "/"),
    ("-d 1 -c 64 -e 13", "/"),
    ("-d 1 -c 16 -D 16 -e 13", "/"),
    ("-d 1 -c 16 -D 4 -s 1024 -E", "/echo"),
)


def ldgen(out, options, url):
    """Runs ldgen and returns its result; its own balance must hold."""
    done = subprocess.run([str(out / "ldgen"), *options.split(), url], capture_output=True,
                          text=True, timeout=60, check=False)
    result = json.loads(done.stdout)
    assert result["sent"] == result["done"] + result["drained"] + result["lost"], result
    wrong = result["bad"] or result["non_2xx"] or result["lost"]
    assert done.returncode == (1 if wrong else 0), (done.returncode, result)
    return result


def check_misbehaviour(out, reply, step, options, expected):
    """One row of MISBEHAVIOUR."""
    server = Server(reply, step)
    try:
        result = ldgen(out, options + " -d 20", f"http://127.0.0.1:{server.port}/")
    finally:
        server.listener.close()
    got = {key: result[key] for key in {"bad": 0, "lost": 0, "non_2xx": 0, **expected}}
    assert got == {"bad": 0, "lost": 0, "non_2xx": 0, **expected}, result


def check_nginx(out, options, path):
    """ldgen's count of requests against the lines of an access log."""
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        place = cases.Place(out, Path(scratch), procs.free_port())
        log = place.dir / "access.log"
        conf = cases.fill("nginx.conf", place, ACCESS=log)
        server = procs.Process(["nginx", "-c", str(conf)], None, place.dir / "nginx.log")
        try:
            server.wait_port(place.port)
            result = ldgen(out, options, f"http://127.0.0.1:{place.port}{path}")
        finally:
            server.stop()
        lines = log.read_text().splitlines()
    logged = sum('" 200 ' in line for line in lines)
    assert logged == len(lines) == result["sent"] > 0, (logged, len(lines), result)
    assert result["lost"] == result["bad"] == 0, result


def check_numbers(out):
    """With -V no head is like another, but for four digits."""
    for where, pattern in (("path", rb"^GET /x([0-9a-f]{4}) HTTP/1.1\r\n"),
                           ("header", rb"\r\nN: ([0-9a-f]{4})\r\n$")):
        server = Server(lambda k, b: whole(HELLO), 999)
        try:
            ldgen(out, f"-n 40 -c 1 -D 4 -e 13 -V {where}", f"http://127.0.0.1:{server.port}/x")
        finally:
            server.listener.close()
        numbers = {re.search(pattern, head)[1] for head in server.heads}
        assert len(numbers) == len(server.heads) == 40, server.heads


def check_loopback_only(out):
    """ldgen must refuse any other target before it opens a socket."""
    done = subprocess.run([str(out / "ldgen"), "http://192.0.2.1:80/"], capture_output=True,
                          text=True, timeout=5, check=False)
    assert done.returncode == 2 and "loopback" in done.stderr, done


def main():
    """Runs every check; the exit status is 1 if any failed."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", type=Path, default=subject.OUT, help="where ldgen is")
    out = p.parse_args().out
    checks = [("loopback only", check_loopback_only, ()), ("numbers", check_numbers, ())]
    checks += [(name, check_misbehaviour, rest) for name, *rest in MISBEHAVIOUR]
    if lack := cases.missing(cases.SERVERS["nginx"].needs, out):
        print(f"no {lack}: the comparison with nginx's access log is left out")
    else:
        checks += [(f"nginx access log, {row[0]}", check_nginx, row) for row in NGINX_RUNS]
    failed = 0
    for name, check, args in checks:
        try:
            check(out, *args)
            print(f"ok    {name}")
        except (AssertionError, ValueError, RuntimeError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"FAIL  {name}: {error}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    raise SystemExit(main())
