"""A running processor for tests: configuration, start, readiness, log, metrics, stop.

    with Stator(tmp_path, "echo", attributes={"idleTimeout": "1s"}) as s:
        assert s.request("POST", "/", body=b"x").body == b"x"

Start it on the main thread: it dies with the thread that started it.

No port is ever guessed: the http trigger listens on port 0 of 127.0.0.1 and its log tells which one
it got, health and metrics are unix sockets. So any number of tests may run side by side.

Environment: STATOR, STATOR_BUILD and STATOR_SANITIZER as tests/CMakeLists.txt sets them;
STATOR_TEST_SLOWNESS multiplies every patience() (5 in sanitizer builds, else 1; 3 for coverage).
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import prometheus_text
from http_raw import Address, Connection, Response, build_request

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("STATOR_BUILD", ROOT / "build")).resolve()
BINARY = Path(os.environ.get("STATOR", BUILD / "stator")).resolve()
SANITIZER = os.environ.get("STATOR_SANITIZER", "")
SLOWNESS = float(os.environ.get("STATOR_TEST_SLOWNESS", "5" if SANITIZER else "1"))

# Environment of a processor that ends without waiting for its threads: it gives up a handler that
# hangs, or it could not start. ThreadSanitizer would complain of those that have just finished.
STRAYS = {"TSAN_OPTIONS": os.environ.get("TSAN_OPTIONS", "") + ":report_thread_leaks=0"}

START_SECONDS = 20
COMPLAINTS = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|assertion")


def patience(seconds: float) -> float:
    """How long to wait for what should take at most that long on a busy machine."""
    return seconds * SLOWNESS


def wait_until(check: Callable[[], Any], seconds: float = 10,
               what: str | Callable[[], str] = "") -> Any:
    """Returns the first true value of check(); fails when patience(seconds) have passed, saying
    what."""
    end = time.monotonic() + patience(seconds)
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            text = what() if callable(what) else what or check
            raise AssertionError(f"not within {patience(seconds):g} s: {text}")
        time.sleep(0.01)


def handler_path(name: str) -> str:
    """The shared object of tests/unit/handlers/NAME.c; a path with a slash is left as it is."""
    return name if "/" in name else str(BUILD / "tests" / "handlers" / f"{name}.so")


def python_options(folder: Path, code: str, worker: str = "native", *,
                   spec: dict[str, Any] | None = None, env: dict[str, str] | None = None,
                   **options: Any) -> dict[str, Any]:
    """What Stator() takes for a function in Python: handler.py in the folder gets the code, its
    handler() is called. worker: "native" or "portable"."""
    (folder / "handler.py").write_text(textwrap.dedent(code), encoding="utf-8")
    spec = {"runtime": "python", "handler": "handler:handler"} | (spec or {})
    if worker == "portable":
        spec["env"] = [*spec.get("env", []), {"name": "STATOR_PYTHON_PORTABLE", "value": "1"}]
    return {"spec": spec, "env": {"NUCLIO_PYTHON_PATH": str(folder)} | (env or {}),
            "admin": True, **options}


class Stator:
    """One processor, ready when the constructor returns (unless ready=False).

    handler     name of a test handler, or a path
    workers     numWorkers of the http trigger
    attributes  of the http trigger; trigger: further fields of it, which win
    own         spec.stator (loops: 2 unless given); spec: further fields of spec
    url         of the http trigger
    platform    further top-level keys of platform.yaml, which win
    args, env   more of the command line and of the environment
    nofile      RLIMIT_NOFILE, soft and hard
    prefix      words before the command
    admin       with its administration, for status()
    """

    def __init__(self, tmp_path: Path, handler: str, *, workers: int | None = None,
                 attributes: dict[str, Any] | None = None, trigger: dict[str, Any] | None = None,
                 own: dict[str, Any] | None = None, spec: dict[str, Any] | None = None,
                 url: str = "127.0.0.1:0", platform: dict[str, Any] | None = None,
                 args: Sequence[str] = (), env: dict[str, str] | None = None,
                 nofile: int | None = None, prefix: Sequence[str] = (), ready: bool = True,
                 admin: bool = False, name: str = "test"):
        self.dir = Path(tmp_path)
        self.name = name
        self._admin = admin
        self._sockets = tempfile.mkdtemp(prefix="st-")  # short: a socket's path has 107 bytes
        self.health: Address = f"{self._sockets}/health"
        self.scrape: Address = f"{self._sockets}/metrics"
        self.web: Address = f"{self._sockets}/web"
        self.log_file = self.dir / f"{name}.log"
        self.err_file = self.dir / f"{name}.err"
        http = {"kind": "http", "url": url, "attributes": attributes or {}}
        if workers is not None:
            http["numWorkers"] = workers
        config = self._write("function", {
            "metadata": {"name": name},
            "spec": {"runtime": "native", "handler": handler_path(handler),
                     "triggers": {"http": http | (trigger or {})},
                     "stator": {"loops": 2} | (own or {})} | (spec or {})})
        platform_file = self._write("platform", self._platform() | (platform or {}))
        limit = ["prlimit", f"--nofile={nofile}:{nofile}"] if nofile else []
        self.argv = [*prefix, *limit, "setpriv", "--pdeathsig", "KILL", str(BINARY), "run",
                     "--config", config, "--platform-config", platform_file, *args]
        self._start(env or {})
        if ready:
            try:
                self.wait_ready()
            except BaseException:
                self.kill()
                raise

    def _write(self, kind: str, content: dict[str, Any]) -> str:
        path = self.dir / f"{self.name}-{kind}.yaml"
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")  # JSON is YAML
        return str(path)

    def _platform(self) -> dict[str, Any]:
        return {
            "webAdmin": {"enabled": self._admin, "listenAddress": f"unix:{self.web}"},
            "healthCheck": {"enabled": True, "listenAddress": f"unix:{self.health}"},
            "metrics": {"sinks": {"pull": {"kind": "prometheusPull",
                                           "url": f"unix:{self.scrape}"}},
                        "functions": ["pull"]},
            "logger": {"sinks": {"out": {"kind": "stdout", "attributes": {"encoding": "json"}}},
                       "system": [{"level": "debug", "sink": "out"}]},
        }

    def _start(self, env: dict[str, str]) -> None:
        with open(self.log_file, "wb") as out, open(self.err_file, "wb") as err:
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=err, cwd=self.dir, start_new_session=True,
                                          env={**os.environ, **env})
        self.pid = self.popen.pid

    def __enter__(self) -> "Stator":
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        try:
            if kind is None and self.is_running():
                self.stop()
        finally:
            self.kill()

    # Life

    def is_running(self) -> bool:
        return self.popen.poll() is None

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Returns when /ready says 200."""
        def ready() -> bool:
            if not self.is_running():
                raise AssertionError(f"ended with {self.popen.returncode} before it was ready\n"
                                     + self.report())
            try:
                return self.ready() == 200
            except OSError:
                return False
        wait_until(ready, seconds, f"ready; {self.report()}")

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.popen.send_signal(number)

    def wait(self, seconds: float = 15) -> int:
        """The exit status, as subprocess has it: negative after a signal."""
        try:
            return self.popen.wait(patience(seconds))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {patience(seconds):g} s\n"
                                 + self.report() + self.stacks()) from None

    def stop(self, seconds: float = 15, expect: int = 0) -> float:
        """SIGTERM, then waits for the end and checks how it ended. Returns how long it took."""
        start = time.monotonic()
        self.signal()
        status = self.wait(seconds)
        took = time.monotonic() - start
        assert status == expect, f"exit status {status}, expected {expect}\n{self.report()}"
        assert not COMPLAINTS.search(self.stderr()), self.report()
        return took

    def kill(self) -> None:
        """For good, whatever state it is in."""
        if self.is_running():
            self.popen.kill()
        self.popen.wait()
        shutil.rmtree(self._sockets, ignore_errors=True)

    # What it says

    def stderr(self) -> str:
        return self.err_file.read_text(encoding="utf-8", errors="replace")

    def stdout(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def report(self) -> str:
        """Both outputs, for messages."""
        return f"--- stderr\n{self.stderr()[-4000:]}\n--- log\n{self.stdout()[-4000:]}"

    def stacks(self) -> str:
        """What its threads do now, for messages; empty without gdb."""
        if not shutil.which("gdb"):
            return ""
        words = ["gdb", "-q", "-p", str(self.pid), "-batch", "-ex", "thread apply all bt 12"]
        try:
            return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=patience(20), check=False).stdout
        except subprocess.TimeoutExpired:
            return ""

    def log(self, message: str = "") -> list[dict[str, Any]]:
        """Records of the log so far whose message contains the text."""
        lines = self.stdout().splitlines(keepends=True)
        records = [json.loads(line) for line in lines if line.endswith("\n")]
        return [r for r in records if message in r["message"]]

    def wait_log(self, message: str, seconds: float = 10) -> dict[str, Any]:
        """The first record whose message contains the text, when it is there."""
        return wait_until(lambda: self.log(message), seconds,
                          f'"{message}" in the log\n{self.report()}')[0]

    # HTTP

    @property
    def address(self) -> Address:
        """Where the http trigger listens: what to give to connect()."""
        text = self.wait_log("Listening")["address"]
        if text.startswith("unix:"):
            return text[5:]
        host, _, port = text.rpartition(":")
        host = host.strip("[]")
        return (host if host not in ("", "0.0.0.0", "::") else "127.0.0.1", int(port))

    @property
    def port(self) -> int:
        address = self.address
        assert not isinstance(address, str)
        return address[1]

    def connect(self, timeout: float | None = None, **options: Any) -> Connection:
        """A connection to the http trigger. Its timeout, in seconds, bounds each step."""
        return Connection(self.address, timeout or patience(15), **options)

    def request(self, method: str, target: str = "/", body: bytes | None = None,
                headers: Sequence[tuple[str, str]] = (), timeout: float | None = None) -> Response:
        """One request on a connection of its own."""
        with self.connect(timeout) as c:
            c.send(build_request(method, target, body, headers))
            return c.read_response(method == "HEAD")

    def get(self, target: str = "/", **options: Any) -> Response:
        return self.request("GET", target, **options)

    def post(self, body: bytes, target: str = "/", **options: Any) -> Response:
        return self.request("POST", target, body, **options)

    # Admin

    def ask(self, address: Address, target: str, method: str = "GET",
            timeout: float | None = None) -> Response:
        """One request to an admin listener."""
        with Connection(address, timeout or patience(15)) as c:
            c.send(build_request(method, target, headers=[("Connection", "close")]))
            return c.read_response(method == "HEAD")

    def ready(self) -> int:
        """Status of /ready."""
        return self.ask(self.health, "/ready").status

    def live(self) -> int:
        """Status of /live."""
        return self.ask(self.health, "/live").status

    def status(self) -> dict[str, Any]:
        """What /status says."""
        answer = self.ask(self.web, "/status")
        assert answer.status == 200
        return json.loads(answer.body)

    def metrics(self) -> prometheus_text.Samples:
        """Everything that /metrics says, strictly parsed."""
        answer = self.ask(self.scrape, "/metrics")
        assert answer.status == 200
        return prometheus_text.parse(answer.body.decode())

    def metric(self, name: str, /, **labels: str) -> float:
        """Sum of the series of that name that have these labels."""
        return self.metrics().sum(name, **labels)

    def wait_metric(self, value: float, name: str, seconds: float = 10, **labels: str) -> None:
        """Returns when metric() is the value."""
        end = time.monotonic() + patience(seconds)
        while (found := self.metric(name, **labels)) != value:
            assert time.monotonic() < end, f"{name}{labels} is {found}, expected {value}"
            time.sleep(0.01)

    def memory(self) -> int:
        """Resident bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def threads(self) -> dict[str, list[int]]:
        """Thread ids by name."""
        found: dict[str, list[int]] = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            found.setdefault((task / "comm").read_text().strip(), []).append(int(task.name))
        return found


def run_cli(*words: str, env: dict[str, str] | None = None, cwd: Path | None = None,
            seconds: float = 20) -> subprocess.CompletedProcess[str]:
    """Runs `stator WORDS...` to its end."""
    return subprocess.run([str(BINARY), *words], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=patience(seconds), cwd=cwd, check=False,
                          env={**os.environ, **(env or {})})
