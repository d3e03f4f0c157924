"""`stator python build`: the add-on of Python workers, made for an interpreter on the spot."""

import os
import subprocess
from pathlib import Path

import pytest
from stator_proc import BUILD, SANITIZER, run_cli

PYTHON = "/usr/bin/python3"
WARNING = "The add-on stator._native is missing"

pytestmark = pytest.mark.skipif(SANITIZER != "", reason="the installed program, not instrumented")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A whole installation without the add-on."""
    prefix = tmp_path_factory.mktemp("installed") / "usr"
    subprocess.run(["cmake", "--install", str(BUILD), "--prefix", str(prefix)],
                   capture_output=True, check=True)
    for addon in prefix.glob("lib/stator/python/stator/_native*.so"):
        addon.unlink()
    return prefix


def check_worker(prefix: Path, **env: str) -> str:
    """What the worker's modules say of themselves: the add-on's file, or why there is none."""
    done = subprocess.run(
        [PYTHON, "-c", "from stator._worker.__main__ import _native\n"
                       "from sys import modules\n"
                       "found, reason = _native()\n"
                       "print(modules['stator._native'].__file__ if found else reason)"],
        env={**os.environ, "PYTHONPATH": str(prefix / "lib/stator/python"), **env},
        capture_output=True, text=True, check=True)
    return done.stdout.strip()


def build(prefix: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(prefix / "bin/stator"), "python", "build", *words],
                          env={**os.environ, **env}, capture_output=True, text=True, check=False)


def test_beside_the_packages(installed):
    """It lies beside the packages, and workers find it there."""
    assert "_native" in check_worker(installed, XDG_CACHE_HOME="/nowhere")
    done = build(installed)
    assert (done.returncode, done.stderr) == (0, "")
    made = Path(done.stdout.strip())
    assert made.is_file() and made.parent == installed / "lib/stator/python/stator"
    assert check_worker(installed) == str(made)
    made.unlink()


def test_in_the_cache(installed, tmp_path):
    """Where the packages can't be written: root may write everywhere, so the choice is checked."""
    code = ("import os, stator._worker.build as b\n"
            "os.access = lambda *_: False\n"
            "raise SystemExit(b.main())")
    env = {**os.environ, "PYTHONPATH": str(installed / "lib/stator/python"),
           "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([PYTHON, "-c", code], env=env, capture_output=True, text=True, check=True)
    made = done.stdout.strip()
    assert Path(made).parent == tmp_path / "stator" / "python"
    assert check_worker(installed, XDG_CACHE_HOME=str(tmp_path)) == made


def test_what_can_go_wrong(installed):
    done = build(installed, "--python=/nowhere/python3")
    assert done.returncode == 1 and "/nowhere/python3 can't be run" in done.stderr
    done = build(installed, CC="/nowhere/cc")
    assert done.returncode == 1 and "no compiler /nowhere/cc: install gcc" in done.stderr
    for words in (("python",), ("python", "bild"), ("python", "build", "--pyhton=x")):
        done = run_cli(*words)
        assert done.returncode == 2
        assert "type: stator python build [--python=PATH]" in done.stderr
    assert "--python=PATH" in run_cli("python", "--help").stdout
