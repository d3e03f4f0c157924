"""Own child processes: start pinned, account their CPU time, stop them, and see foreign CPU use."""

import contextlib
import ctypes
import glob
import os
import shlex
import signal
import socket
import subprocess
import time

PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf("SC_CLK_TCK")


def adopt_orphans():
    """Makes daemonised grandchildren children of this process, so that they can be ended."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _stat_fields(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        return f.read().rpartition(")")[2].split()


def _children_of_all():
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children.setdefault(int(_stat_fields(entry)[1]), []).append(int(entry))
            except OSError:
                continue
    return children


def descendants(*roots):
    """Process ids below the roots, these themselves excluded."""
    children = _children_of_all()
    found, todo = [], list(roots)
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def cpu_seconds(pid):
    """CPU time of one process in seconds. The kernel's two accounts differ in what they miss:
    schedstat is exact but forgets threads that ended, stat remembers them but counts ticks."""
    try:
        fields = _stat_fields(pid)
        exact = 0
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            with open(path, encoding="ascii") as f:
                exact += int(f.read().split()[0])
    except OSError:
        return 0.0
    return max(exact / 1e9, (int(fields[11]) + int(fields[12])) / TICKS)


def busy_seconds():
    """CPU time the whole machine spent or had stolen, in seconds."""
    with open("/proc/stat", encoding="ascii") as f:
        fields = [int(word) for word in f.readline().split()[1:9]]
    idle, iowait = fields[3:5]
    return (sum(fields) - idle - iowait) / TICKS


class Process:
    """A child pinned to one core (None: to none). Its whole tree counts as the child, and ends with
    it; a part that left the tree, and was adopted by this process, is known by a tag in its
    environment."""

    TAG = "BENCH_PROCESS"
    serial = 0

    def __init__(self, argv, core, log, cwd=None, env=None, stdout=None):
        Process.serial += 1
        self.tag = f"{Process.TAG}={os.getpid()}.{Process.serial}"
        self.argv = argv
        self.log = log
        with open(log, "ab") as err:
            pin = [] if core is None else ["taskset", "-c", str(core)]
            self.popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *pin, *argv],
                stdin=subprocess.DEVNULL, stdout=err if stdout is None else stdout, stderr=err,
                cwd=cwd, start_new_session=True,
                env={**os.environ, **(env or {}), "PYTHONDONTWRITEBYTECODE": "1",
                     Process.TAG: self.tag.partition("=")[2]})

    def pids(self):
        """Process ids of the tree now, strays included."""
        roots = [self.popen.pid]
        for pid in _children_of_all().get(os.getpid(), []):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    if pid != self.popen.pid and self.tag.encode() in f.read().split(b"\0"):
                        roots.append(pid)
            except OSError:
                continue
        return roots + descendants(*roots)

    def cpu(self):
        """CPU seconds of the tree so far."""
        return sum(map(cpu_seconds, self.pids()))

    def fail(self, what):
        """Raises with the end of the child's log."""
        with open(self.log, encoding="utf-8", errors="replace") as f:
            tail = f.read()[-800:]
        raise RuntimeError(f"{shlex.join(self.argv)}: {what}\n{tail}")

    def wait_port(self, port, seconds=30):
        """Returns once something accepts connections on the loopback port."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.popen.poll() is not None:
                self.fail(f"exited with {self.popen.returncode}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.fail(f"port {port} did not open in {seconds} s")

    def stop(self, grace=5):
        """SIGTERM to the child, then SIGKILL to whatever of its tree is left."""
        if self.popen.poll() is None:
            tree = self.pids()
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(grace)
            except subprocess.TimeoutExpired:
                pass
            kill_own(tree)
        kill_own(self.pids())
        self.popen.wait()
        reap()


def kill_own(pids=None):
    """SIGKILL to those of the pids (None: all) that are below this process at this moment."""
    below = descendants(os.getpid())
    for pid in below if pids is None else set(pids).intersection(below):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def reap():
    """Collects adopted orphans that ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass


def free_ports(count):
    """Different loopback TCP ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def free_port():
    """A loopback TCP port that nobody listens on now."""
    return free_ports(1)[0]


class Window:
    """CPU use between two moments: of given trees, and of everybody else (steal included)."""

    def __init__(self, *trees):
        self.trees = trees
        self.start = self._sample()

    def _sample(self):
        own = os.times()
        return (time.monotonic(), busy_seconds(), [t.cpu() for t in self.trees],
                own.user + own.system + own.children_user + own.children_system)

    def close(self):
        """Returns (wall seconds, CPU seconds of each tree, foreign cores)."""
        end = self._sample()
        wall = end[0] - self.start[0]
        trees = [b - a for a, b in zip(self.start[2], end[2])]
        foreign = (end[1] - self.start[1]) - sum(trees) - (end[3] - self.start[3])
        return wall, trees, max(0.0, foreign / wall)


class QuietGate:
    """Waits for a quiet machine, within a budget of seconds for all its waits together."""

    def __init__(self, limit, budget):
        self.limit = limit
        self.left = budget

    def wait(self, *trees):
        """Returns after two quiet samples in a row, or when the budget is spent."""
        quiet = 0
        while quiet < 2 and self.left > 0:
            window = Window(*trees)
            time.sleep(0.25)
            wall, _, foreign = window.close()
            quiet = quiet + 1 if foreign <= self.limit else 0
            self.left -= wall
