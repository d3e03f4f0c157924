"""Makes the add-on stator._native for the Python that runs this: `stator python build`.

The add-on goes beside the packages, or, where they can't be written, into the user's cache."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGE = Path(__file__).absolute().parents[1]
SOURCES = PACKAGE.parents[1] / "python-src"     # beside the folder of the packages
OLDEST = (3, 10)


def cache() -> Path:
    """Where the add-on lies that could not be put beside the packages."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "stator" / "python"


def output() -> Path:
    """The folder that the add-on goes to."""
    return PACKAGE if os.access(PACKAGE, os.W_OK) else cache()


def problem() -> str:
    """Why it can't be made here, and what to do; empty: it can."""
    include = Path(sysconfig.get_path("include"))
    if sys.version_info < OLDEST:
        return (f"{sys.executable} is Python {sys.version.split()[0]}; the add-on needs "
                f"{OLDEST[0]}.{OLDEST[1]} or later")
    if not SOURCES.is_dir():
        return f"the sources are not in {SOURCES}: install Stator as a whole"
    if not (include / "Python.h").exists():
        return (f"Python.h is not in {include}: install the headers of this Python "
                "(Debian: apt-get install python3-dev)")
    return ""


def command(target: Path) -> list[str]:
    """The call of the compiler."""
    sources = sorted((SOURCES / "runtimes/python/ext").glob("*.c"))
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    return [*compiler[:1], "-std=gnu17", "-O2", "-DNDEBUG", "-D_GNU_SOURCE=1", "-fPIC", "-shared",
            "-fvisibility=hidden", f"-I{sysconfig.get_path('include')}", f"-I{SOURCES}",
            *map(str, sources), str(SOURCES / "runtimes/process/extent.c"), "-o", str(target)]


def main() -> int:
    """Makes it, and says where it is."""
    why = problem()
    if why:
        print(f"stator: python build: {why}", file=sys.stderr)
        return 1
    folder = output()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        done = subprocess.run(command(fresh), check=False)
        if done.returncode != 0:
            print("stator: python build: the compiler failed; its messages are above",
                  file=sys.stderr)
            return 1
        os.replace(fresh, target)   # workers that run keep the old one
    except FileNotFoundError as exc:
        print(f"stator: python build: there is no compiler {exc.filename}: install gcc, or set CC",
              file=sys.stderr)
        return 1
    finally:
        fresh.unlink(missing_ok=True)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
