"""What is compared: the reference servers, the subjects, the load clients, and the cases that
pair them. A new peer, client or case is one row of a table here."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streams
import subject

HERE = Path(__file__).resolve().parent
HELLO = "Hello, world!"


@dataclass
class Place:
    """Where a server of one run lives."""
    out: Path           # what the build made
    dir: Path           # scratch folder of this run
    port: int
    stream: streams.Stream | None = None    # what it reads


@dataclass(frozen=True)
class Server:
    """A reference: its command, and what must be there for it (programs, or paths)."""
    argv: Callable      # of a Place
    needs: tuple
    echo_path: str = ""     # where a POST goes, if not to /


@dataclass(frozen=True)
class Client:
    """A load client: its command, up to the URL, and the reader of what it prints."""
    argv: Callable      # of a Place, a Case and the seconds
    read: Callable      # of its output; gives total, req_s, error and perhaps p50_us, p99_us
    needs: str
    warm_up: float = 0.5    # seconds of load before each measurement


@dataclass(frozen=True)
class Case:
    """One comparison. servers[0] is the limit that ratios refer to."""
    name: str
    what: str
    servers: tuple
    subjects: tuple = ("stator",)
    client: str = "ldgen"
    args: tuple = ()
    runner: str = "http"        # a key of bench.RUNNERS
    echo: bool = False
    messages: streams.Messages | None = None    # of a stream: what is read
    count: int = 0              # and how many of it
    figure: str = "per_core"    # what ratios are of: or req_s, where everybody waits


def fill(name, place, **more):
    """Writes a copy of a peer's configuration with its @KEYS@ replaced; returns its path."""
    text = (HERE / "peers" / name).read_text()
    for key, value in {"PORT": place.port, "DIR": place.dir, **more}.items():
        text = text.replace(f"@{key}@", str(value))
    path = place.dir / name
    path.write_text(text)
    return path


ECHO_MODULE = "/usr/lib/nginx/modules/ngx_http_echo_module.so"

SERVERS = {
    "limit_http": Server(lambda p: [str(p.out / "limit_http"), str(p.port)],
                         ("{out}/limit_http",)),
    "nginx": Server(lambda p: ["nginx", "-c", str(fill("nginx.conf", p, ACCESS="off"))],
                    ("nginx", ECHO_MODULE), echo_path="echo"),
    "fasthttp_worker": Server(lambda p: [str(p.out / "fasthttp_worker"), "-addr",
                                         f"127.0.0.1:{p.port}", "-workers", "8", "-procs", "1"],
                              ("{out}/fasthttp_worker",)),
    "uvicorn": Server(lambda p: [str(p.out / "peers/bin/uvicorn"), "asgi_app:app", "--app-dir",
                                 str(HERE / "peers"), "--host", "127.0.0.1", "--port",
                                 str(p.port), "--loop", "uvloop", "--http", "httptools",
                                 "--no-access-log", "--log-level", "warning"],
                      ("{out}/peers/bin/uvicorn",)),
    "limit_kafka": Server(lambda p: p.stream.limit("consume"), ("{out}/limit_kafka",)),
    "limit_kafka_group": Server(lambda p: p.stream.limit("group"), ("{out}/limit_kafka",)),
    "limit_kafka_produce": Server(lambda p: p.stream.limit("produce"), ("{out}/limit_kafka",)),
    "limit_kafka_copy": Server(lambda p: p.stream.limit("copy"), ("{out}/limit_kafka",)),
    "node": Server(lambda p: ["node", str(HERE / "peers/node_http.js"), str(p.port)], ("node",)),
}

# Name -> configuration of this folder.
SUBJECTS = {
    "stator": "native.yaml",
    "stator-thread": "native-thread.yaml",
    "stator-process": "native-process.yaml",
    "stator-python": "python.yaml",
    "stator-kafka": "kafka.yaml",
    "stator-kafka-python": "kafka-python.yaml",
    "stator-kafka-python-batch": "kafka-python-batch.yaml",
    "stator-kafka-emit": "kafka-emit.yaml",
    "stator-kafka-emit-none": "kafka-emit-none.yaml",
    "stator-kafka-partition": "kafka-order-partition.yaml",
    "stator-kafka-key4": "kafka-order-key4.yaml",
    "stator-kafka-key32": "kafka-order-key32.yaml",
}


def _number(pattern, text):
    match = re.search(pattern, text)
    return float(match[1]) if match else None


_MICROSECONDS = {"us": 1, "ms": 1e3, "s": 1e6}


def _latency(pattern, text):
    match = re.search(pattern + r"\s+([\d.]+)(us|ms|s)\b", text)
    return float(match[1]) * _MICROSECONDS[match[2]] if match else None


def read_ldgen(text):
    """The result of an ldgen run, from its JSON."""
    r = json.loads(text)
    r["total"] = r["done"] + r["drained"]
    wrong = {k: r[k] for k in ("bad", "non_2xx", "lost") if r[k]}
    r["error"] = f"{wrong} {r['why']}".strip() if wrong else None if r["done"] else "no answer"
    return r


def _read_wrk(text):
    wrong = re.search(r"Socket errors: .*|Non-2xx or 3xx responses: .*", text)
    return {"total": int(_number(r"(\d+) requests in", text) or 0),
            "req_s": _number(r"Requests/sec:\s+([\d.]+)", text),
            "p50_us": _latency("50%", text), "p99_us": _latency("99%", text),
            "error": wrong[0] if wrong else None}


CLIENTS = {
    "ldgen": Client(lambda p, case, s: [str(p.out / "ldgen"), "-d", str(s), *case.args],
                    read_ldgen, "{out}/ldgen"),
    "wrk": Client(lambda _, case, s: ["wrk", f"-d{s}", "--latency", *case.args], _read_wrk,
                  "wrk", warm_up=1),
}

_WEB = ("limit_http", "nginx", "fasthttp_worker", "node")
_PYTHON = ("limit_http", "uvicorn")
_GET = ("-e", str(len(HELLO)))
_POST = ("-s", "1024", "-E")
_KAFKA = ("limit_kafka", "limit_kafka_group")
_SMALL = streams.Messages(4000000, 100, keys=10000, partitions=16)
_LARGE = streams.Messages(1000000, 1024, keys=10000, partitions=16)
_FEW_KEYS = streams.Messages(400000, 100, keys=100, partitions=8)

CASES = {c.name: c for c in (
    Case("http-get", "GET, 64 connections", _WEB, args=("-c", "64", *_GET)),
    Case("http-get-c4", "GET, 4 connections: latency", _WEB, args=("-c", "4", *_GET)),
    Case("http-get-wrk", "GET, 64 connections, client wrk: a check on ldgen", _WEB, client="wrk",
         args=("-t1", "-c64")),
    Case("http-post-1k", "POST echo of 1 KiB, 64 connections", _WEB, args=("-c", "64", *_POST),
         echo=True),
    Case("http-pipelined", "GET, 64 connections, 16 in flight on each", _WEB,
         args=("-c", "64", "-D", "16", *_GET)),
    Case("http-get-thread", "GET, 64 connections: handler on the loop, or on a worker thread",
         ("limit_http",), ("stator", "stator-thread"), args=("-c", "64", *_GET)),
    Case("http-get-process", "GET, 64 connections: handler on a worker thread, or in a process",
         ("limit_http",), ("stator-thread", "stator-process"), args=("-c", "64", *_GET)),
    Case("python-get", "GET, 64 connections, a Python worker process", _PYTHON,
         ("stator-python",), args=("-c", "64", *_GET)),
    Case("python-get-c4", "GET, 4 connections, a Python worker process: latency", _PYTHON,
         ("stator-python",), args=("-c", "4", *_GET)),
    Case("python-post-1k", "POST echo of 1 KiB, 64 connections, a Python worker process", _PYTHON,
         ("stator-python",), args=("-c", "64", *_POST), echo=True),
    Case("python-pipelined", "GET, 64 connections, 16 in flight on each, a Python worker process",
         _PYTHON, ("stator-python",), args=("-c", "64", "-D", "16", *_GET)),
    Case("kafka-100", "messages of 100 B, a C handler that does nothing", _KAFKA,
         ("stator-kafka",), runner="kafka", messages=_SMALL, count=4000000),
    Case("kafka-1k", "messages of 1 KiB, a C handler that does nothing", _KAFKA,
         ("stator-kafka",), runner="kafka", messages=_LARGE, count=1000000),
    Case("kafka-python", "messages of 100 B, an empty Python handler in a worker process", _KAFKA,
         ("stator-kafka-python",), runner="kafka", messages=_SMALL, count=400000),
    Case("kafka-python-batch", "messages of 100 B, a Python handler of 500 at a time", _KAFKA,
         ("stator-kafka-python-batch",), runner="kafka", messages=_SMALL, count=1000000),
    Case("kafka-emit", "messages of 100 B, each published again by a C handler",
         ("limit_kafka_produce", "limit_kafka_copy"), ("stator-kafka-emit", "stator-kafka-emit-none"),
         runner="kafka", echo=True, messages=_SMALL, count=3000000),
    Case("kafka-order", "100 keys, 8 partitions, a handler that waits for 1 ms, 64 threads", (),
         ("stator-kafka-partition", "stator-kafka-key4", "stator-kafka-key32"), runner="kafka",
         messages=_FEW_KEYS, count=60000, figure="req_s"),
)}


def missing(needs, out):
    """The first of the needed programs and paths that is not there, or None."""
    for need in needs:
        need = need.replace("{out}", str(out))
        if not (Path(need).exists() if need.startswith("/") else shutil.which(need)):
            return need
    return None


def subject_command(name, place):
    """argv of a subject."""
    return subject.command(place.dir, place.port, SUBJECTS[name],
                           metrics=place.stream and place.stream.metrics)


def run_client(case, place, url, seconds, core):
    """Drives one server from a core (None: any); gives what the client's reader gives."""
    client = CLIENTS[case.client]
    argv = [*client.argv(place, case, seconds), url]
    if core is not None:
        argv = ["taskset", "-c", str(core), *argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 30, check=False)
    try:
        return client.read(done.stdout)
    except (ValueError, KeyError):
        return {"total": 0, "req_s": None, "error": (done.stderr or done.stdout).strip()[-300:]}


def run_checked(name, scratch, port, seconds, core=None):
    """ldgen's result for a case; raises if anything was wrong in it."""
    place = Place(subject.OUT, scratch, port)
    result = run_client(CASES[name], place, f"http://127.0.0.1:{port}/", seconds, core)
    assert result["error"] is None and result["reconnects"] == 0, result
    return result
