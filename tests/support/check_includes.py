#!/usr/bin/env python3
"""Checks the include rule in the C files named on stdin (NUL between names).

core <- net <- processor <- triggers | runtimes: a layer includes itself and what is left of it. One
trigger or runtime never includes another, but runtimes of languages build on runtimes/process; only processor/registry.c sees both. A quoted name is a
path from the repository's root. Handlers, and the public header, see no more than a user's would.
"""

import os
import re
import sys
from pathlib import Path

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
PUBLIC = "stator/handler.h"
PUBLIC_FILE = "runtimes/native/include/stator/handler.h"
GENERATED = {"stator_version.h", "worker.pb-c.h"}
HANDLERS = ("docs/examples/", "tests/unit/handlers/")
TESTS = "tests/unit/"
LIBC = set("""assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal
    stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings tgmath
    threads time uchar wchar wctype pthread sched semaphore unistd fcntl poll dlfcn sys/types
    sys/time sys/stat sys/mman sys/resource""".split())
NAMESAKES = {"spawn.h"}  # of libc, and a file of ours that lies beside its readers
BELOW = {
    "core": {"core"},
    "net": {"core", "net"},
    "processor": {"core", "net", "processor"},
}


def layer(path):
    """core, net, processor, registry, trigger:KIND, runtime:KIND, or None for other folders."""
    parts = path.split("/")
    if parts[0] == "processor":
        if path == "processor/registry.c":
            return "registry"
        return parts[1] if len(parts) > 2 and parts[1] in ("core", "net") else "processor"
    if parts[0] in ("triggers", "runtimes") and len(parts) > 2:
        return f"{parts[0][:-1]}:{parts[1]}"
    return None


def allowed(source, target):
    """Whether a file of one layer may include a file of another."""
    if target is None:
        return False
    if source == "registry":
        return True
    if source in BELOW:
        return target in BELOW[source]
    # Runtimes of languages are built on the process runtime.
    if source.startswith("runtime:") and target == "runtime:process":
        return source != "runtime:native"
    # Its isolated form runs the same handlers.
    if source == "runtime:native_process" and target == "runtime:native":
        return True
    return target in BELOW["processor"] or target == source


def check_public(form, name):
    """What is wrong with an include in the public header, or None."""
    if form == "<" and name in ("stddef.h", "stdint.h", "stdbool.h"):
        return None
    return "the public header includes only <stddef.h>, <stdint.h> and <stdbool.h>"


def check_handler(path, form, name):
    """What is wrong with an include in a handler, or None. A test handler may be a variant of
    another one, or use an old public header, that lies beside it."""
    if form == "<" and (name == PUBLIC or name.removesuffix(".h") in LIBC):
        return None
    if form == '"' and path.startswith(TESTS):
        beside = os.path.normpath(Path(path).parent / name)
        if beside.startswith(TESTS) and beside.endswith((".c", PUBLIC)) and Path(beside).exists():
            return None
    return f"a handler includes only <{PUBLIC}> and libc"


def check_source(path, form, name):
    """What is wrong with an include in the processor, a trigger or a runtime, or None."""
    source = layer(path)
    if name == PUBLIC:
        if source not in ("runtime:native", "runtime:native_process") and path != "processor/main.c":
            return "only runtimes/native*, and main.c for its version, include the public header"
        return None
    if form == "<":
        if name not in NAMESAKES and any((at / name).exists() for at in (Path(), Path(path).parent)):
            return 'a file of ours is included with quotes, as "path/from/the/root.h"'
        return None
    if name in GENERATED:
        return None
    if not Path(name).exists():
        return "not a path from the repository's root"
    if not allowed(source, layer(name)):
        return f"{source} may not include {layer(name) or 'this folder'}"
    return None


def problems(path):
    """(line number, text) of every include in a file that breaks the rule."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        form, name = match.groups()
        if path == PUBLIC_FILE:
            wrong = check_public(form, name)
        elif path.startswith(HANDLERS):
            wrong = check_handler(path, form, name)
        elif layer(path) is not None:
            wrong = check_source(path, form, name)
        elif "../" in name:
            wrong = "not a path from the repository's root"
        else:
            wrong = None
        if wrong:
            yield number, f"{name}: {wrong}"


def main():
    bad = 0
    for path in sys.stdin.read().split("\0"):
        if path.endswith((".c", ".h")):
            for number, text in problems(path):
                print(f"{path}:{number}: {text}")
                bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
