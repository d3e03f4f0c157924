#!/usr/bin/env python3
"""Compiles every header named on stdin (NUL between names) alone; the public one also as strict C99
and as C++. Argument: a configured build folder, for the generated header and the include paths."""

import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PUBLIC = "runtimes/native/include/stator/handler.h"
WARN = ["-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
OURS = ["-std=gnu17", "-D_GNU_SOURCE=", "-Wstrict-prototypes", "-Wconversion"]


def include_paths(build):
    """The include options of every compile command of the build folder, each once."""
    paths = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        words = shlex.split(entry["command"])
        for word, following in zip(words, words[1:] + [""]):
            if word == "-isystem":
                paths[f"-isystem{following}"] = None
            elif word.startswith("-I"):
                paths[word] = None
    return list(paths) or ["-I.", "-Iruntimes/native/include", f"-I{build}/generated"]


def compile_alone(command, header):
    """Compiler's output for one header, empty where it is fine. Twice: its guard must work."""
    text = f'#include "{header}"\n' * 2
    run = subprocess.run(command + ["-"], input=text, text=True, capture_output=True, check=False)
    return run.stderr if run.returncode else ""


def main():
    build = Path(sys.argv[1])
    paths = include_paths(build)
    tasks = []
    for name in sys.stdin.read().split("\0"):
        if not name.endswith(".h"):
            continue
        tasks.append((["cc", "-xc", *WARN, *OURS, *paths], name))
        if name == PUBLIC:
            tasks.append((["cc", "-xc", "-std=c99", "-pedantic-errors", *WARN, "-I."], name))
            tasks.append((["c++", "-xc++", "-std=c++11", "-pedantic-errors", *WARN, "-I."], name))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outputs = list(pool.map(lambda task: compile_alone(*task), tasks))
    for (command, name), output in zip(tasks, outputs):
        if output:
            print(f"{name}: does not compile alone as {command[1][2:]}:\n{output}")
    return 1 if any(outputs) else 0


if __name__ == "__main__":
    sys.exit(main())
