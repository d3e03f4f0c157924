#!/usr/bin/env python3
"""Runs clang-tidy in parallel over our sources in a build folder's compile_commands.json.

A source whose preprocessed text, flags and checks were clean before is skipped; the marks lie in
the build folder's tidy-cache.
"""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def preprocess_command(entry):
    """The entry's compiler command turned into one that prints the preprocessed text."""
    words = shlex.split(entry["command"])
    if Path(words[0]).name == "ccache":
        words = words[1:]
    result, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in ("-o", "-MT", "-MF"):
            skip = True
        elif word not in ("-c", "-MD"):
            result.append(word)
    return result + ["-E", "-CC"]  # with comments: a NOLINT decides too


def checks_of(source):
    """Text of every .clang-tidy that applies to a source."""
    return b"".join((folder / ".clang-tidy").read_bytes() for folder in source.parents
                    if (folder / ".clang-tidy").exists() and folder.is_relative_to(ROOT))


class Tidy:
    """One run: the tool, the build folder and its marks."""

    def __init__(self, build, tool, entries):
        self.tool = tool
        self.marks = build / "tidy-cache"
        self.marks.mkdir(exist_ok=True)
        # A source of two targets is looked at once: the second time in one run of the tool (14), its
        # check of va_list finds what is not there.
        self.database = build / "tidy-database"
        self.database.mkdir(exist_ok=True)
        (self.database / "compile_commands.json").write_text(json.dumps(entries))
        version = subprocess.run([tool, "--version"], capture_output=True, check=True)
        self.version = version.stdout

    def mark(self, entry):
        """Where the mark of this source in this state lies, or None where it does not compile."""
        command = preprocess_command(entry)
        run = subprocess.run(command, cwd=entry["directory"], capture_output=True, check=False)
        if run.returncode:
            return None
        digest = hashlib.sha256(self.version + checks_of(Path(entry["file"])))
        digest.update(" ".join(command).encode() + run.stdout)
        return self.marks / digest.hexdigest()

    def check(self, entry):
        """(file, seconds, output); the output is empty where the file is clean."""
        start = time.monotonic()
        mark = self.mark(entry)
        if mark is not None and mark.exists():
            return entry["file"], 0.0, ""
        run = subprocess.run([self.tool, "-quiet", "-p", str(self.database), entry["file"]],
                             capture_output=True, text=True, check=False)
        clean = run.returncode == 0
        if clean and mark is not None:
            mark.touch()
        output = "" if clean else run.stdout or run.stderr
        return entry["file"], time.monotonic() - start, output


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("-j", type=int, default=os.cpu_count())
    parser.add_argument("--slow", type=int, default=0, help="name so many of the slowest files")
    opt = parser.parse_args()

    tool = shutil.which("clang-tidy-14") or shutil.which("clang-tidy")
    if not tool:
        print("clang-tidy not found: type 'make deps'")
        return 1
    database = json.loads((opt.build / "compile_commands.json").read_text())
    entries = {}
    for entry in database:
        source = Path(entry["file"])
        if source.is_relative_to(ROOT) and not source.is_relative_to(opt.build.resolve()):
            entries.setdefault(entry["file"], entry)
    tidy = Tidy(opt.build, tool, list(entries.values()))
    # The largest files first, so that none is left alone at the end.
    order = sorted(entries.values(), key=lambda entry: -Path(entry["file"]).stat().st_size)
    with ThreadPoolExecutor(opt.j) as pool:
        results = list(pool.map(tidy.check, order))
    bad = 0
    for name, _, output in results:
        if output:
            print(f"{Path(name).relative_to(ROOT)}:\n{output}")
            bad += 1
    for name, seconds, _ in sorted(results, key=lambda result: -result[1])[:opt.slow]:
        print(f"{seconds:6.1f} s  {Path(name).relative_to(ROOT)}")
    checked = sum(1 for _, seconds, _ in results if seconds > 0)
    print(f"    clang-tidy: {len(results)} files, {checked} looked at anew, {bad} with findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
