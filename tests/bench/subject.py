"""The subject: how stator is started here, on ports that are free, and what a running one costs.

As a program, `subject.py DIR PORT [CONFIG]` prints the command for instr.sh, one word a line.
"""

import contextlib
import http.client
import os
import sys
import time
from pathlib import Path

import procs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = Path(os.environ.get("STATOR_BUILD", ROOT / "build")).resolve()
BINARY = Path(os.environ.get("STATOR", BUILD / "stator")).resolve()
OUT = Path(os.environ.get("BENCH_OUT", BUILD / "bench")).resolve()

GIVE_UP = 60        # seconds until it must be ready, or gone

PLATFORM = """\
healthCheck: {{enabled: true, listenAddress: "127.0.0.1:{health}"}}
webAdmin: {{enabled: false}}
disableDefaultHTTPTrigger: true
metrics:
  sinks:
    scrape: {{kind: prometheusPull, url: "127.0.0.1:{metrics}"}}
  system: [scrape]
  functions: [scrape]
"""


def command(scratch, port, config="native.yaml", health=None, metrics=None):
    """argv that runs a configuration of this folder in the foreground, on one I/O loop. The
    working directory must be ROOT: handler paths are relative to it. port: None where nothing
    listens."""
    scratch = Path(scratch)
    spare = procs.free_ports(2)
    platform = scratch / f"platform-{port or spare[0]}.yaml"
    platform.write_text(PLATFORM.format(health=health or spare[0], metrics=metrics or spare[1]))
    path = HERE / config
    if BUILD != ROOT / "build":         # another build tree: its own handlers
        text = path.read_text().replace("build/bench/", f"{BUILD}/bench/")
        path = scratch / config
        path.write_text(text)
    return [str(BINARY), "run", "--config", str(path), "--platform-config", str(platform),
            *(("--port", str(port)) if port else ()), "--loops", "1"]


class Stator:
    """A running processor, ready; its log goes into a scratch directory."""

    def __init__(self, scratch, config="native.yaml", core=None):
        self.port, self.health = procs.free_ports(2)
        argv = command(scratch, self.port, config, self.health)
        self.log = Path(scratch) / "stator.log"
        self.started = time.monotonic()
        self.process = procs.Process(argv, core, self.log, cwd=ROOT)
        self.pid = self.process.popen.pid
        self._wait_ready()
        self.ready_after = time.monotonic() - self.started

    def _wait_ready(self):
        while time.monotonic() < self.started + GIVE_UP:
            if self.process.popen.poll() is not None:
                break
            connection = http.client.HTTPConnection("127.0.0.1", self.health, timeout=5)
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/ready")
                if connection.getresponse().status == 200:
                    connection.close()
                    return
            connection.close()
            time.sleep(0.001)
        self.process.stop()
        self.process.fail("not ready")

    def memory(self):
        """Fields of /proc/PID/status that are sizes, in bytes."""
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        fields = (line.split() for line in text.splitlines())
        return {f[0].rstrip(":"): int(f[1]) * 1024 for f in fields if f[-1] == "kB"}

    def wake_ups(self):
        """Voluntary context switches of all threads so far."""
        total = 0
        for path in Path(f"/proc/{self.pid}/task").glob("*/status"):
            fields = dict(line.split(":", 1) for line in path.read_text("ascii").splitlines())
            total += int(fields["voluntary_ctxt_switches"])
        return total

    def descriptors(self):
        """Number of open files."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self):
        """Ends it as Kubernetes would, and checks that it left well."""
        self.process.stop(grace=GIVE_UP)
        assert self.process.popen.returncode == 0, self.log.read_text()[-2000:]


@contextlib.contextmanager
def stator(scratch, **options):
    """A processor for a while."""
    server = Stator(scratch, **options)
    try:
        yield server
    except BaseException:
        server.process.stop()
        raise
    server.stop()


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: subject.py DIR PORT [CONFIG]")
    print("\n".join(command(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])))
