"""A worker process with the extension alone, for the tests of it."""

import json
import os
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ring_peer import RingPeer, inherit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = Path(os.environ.get("STATOR_BUILD", ROOT / "build"))
PYTHON = "/usr/bin/python3"


def environment() -> dict[str, str]:
    """With the packages, and the extension; an instrumented one where the build is."""
    env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    folder = BUILD / "python"
    if (BUILD / "python-sanitized").is_dir():
        folder = BUILD / "python-sanitized"
        libraries = [subprocess.run(["gcc", f"-print-file-name={name}"], check=True, text=True,
                                    capture_output=True).stdout.strip()
                     for name in ("libasan.so", "libubsan.so")]
        # The interpreter keeps much to its end: no leak of ours can be told from those.
        env.update(LD_PRELOAD=" ".join(libraries), PYTHONMALLOC="malloc",
                   ASAN_OPTIONS="detect_leaks=0")
    env["PYTHONPATH"] = str(ROOT / "runtimes/python/lib")
    env["NATIVE_FOLDER"] = str(folder / "stator")
    return env


class NativeWorker(RingPeer):
    """A worker process with the extension alone, and the processor's side of it."""

    def __init__(self, folder: Path, code: str, *, ring_size: int = 1 << 20,
                 pool_size: int = 8 << 20, **options: object) -> None:
        super().__init__(ring_size, pool_size)
        file = folder / "handler.py"
        file.write_text(textwrap.dedent(code))
        fds = self.worker_fds()
        self.process = subprocess.Popen(
            [PYTHON, "-u", str(HERE / "native_worker.py"), str(file), json.dumps(options)],
            env=environment(), stderr=subprocess.PIPE, text=True, close_fds=False,
            preexec_fn=lambda: inherit(fds))
        self.worker_control.close()
        self.control.settimeout(30)
        assert self.said() == "R", self.errors()

    def said(self) -> str:
        """A byte of its hooks: R ready, D drained; "" when it has ended."""
        return self.control.recv(1).decode()

    def errors(self) -> str:
        self.process.kill()
        return self.process.communicate()[1]

    def stop(self) -> str:
        """Ends it well; its stderr."""
        self.control.send(b"s")
        errors = self.process.communicate(timeout=30)[1]
        assert self.process.returncode == 0, errors
        return errors


@pytest.fixture(name="worker")
def worker_fixture(tmp_path: Path) -> Iterator[Callable[..., NativeWorker]]:
    """worker(code, **options of run()). It must still live when the test ends, and end well."""
    started: list[NativeWorker] = []

    def start(code: str, **options: object) -> NativeWorker:
        started.append(NativeWorker(tmp_path, code, **options))  # type: ignore[arg-type]
        return started[-1]

    try:
        yield start
        for one in started:
            if one.process.returncode is None:
                one.stop()
    finally:
        for one in started:
            if one.process.returncode is None:
                one.process.kill()
                one.process.communicate()
            one.close()
