#!/usr/bin/env python3
"""Holds many idle connections to a loopback port: usage: idle_conns.py PORT COUNT

Prints {"open": N} when all are connected. A line on stdin then makes it send one GET on each and
read the answers: {"answered": N, "fault": null or text}. The next line, or end of file, ends it.
It is a process of its own because both ends of a connection cost a descriptor.
"""

import json
import resource
import socket
import sys

TIMEOUT = 60
REQUEST = b"GET / HTTP/1.1\r\nHost: idle\r\n\r\n"
BODY = b"Hello, world!"


def raise_limit():
    """Descriptors this process may have, after raising the soft limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def read_answer(sock):
    """The fault of one response, or None."""
    data = b""
    while not data.endswith(b"\r\n\r\n" + BODY):
        piece = sock.recv(4096)
        data += piece
        if not piece or len(data) > 4096:
            return f"unexpected answer {data[:200]!r}"
    return None if data.startswith(b"HTTP/1.1 200 ") else f"unexpected status {data[:40]!r}"


def main():
    """See the module's text."""
    port, count = map(int, sys.argv[1:])
    raise_limit()
    sockets = [socket.create_connection(("127.0.0.1", port), TIMEOUT) for _ in range(count)]
    print(json.dumps({"open": len(sockets)}), flush=True)
    if not sys.stdin.readline():
        return
    answered, fault = 0, None
    try:
        for sock in sockets:
            sock.sendall(REQUEST)
        for sock in sockets:
            fault = fault or read_answer(sock)
            answered += fault is None
    except OSError as error:
        fault = str(error)
    print(json.dumps({"answered": answered, "fault": fault}), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
