#!/usr/bin/env python3
"""Checks every file named on stdin (NUL between names): its length, and that it names no path of
somebody's machine."""

import re
import sys

MAX_LINES = 800
CODE = (".c", ".h", ".py")
# An absolute path below a folder in which people keep their own work.
LOCAL_PATH = re.compile(rb"(?<![\w.~$})/-])/(?:work|home/\w+|Users/\w+)/")


def main():
    bad = 0
    for name in sys.stdin.read().split("\0"):
        if not name:
            continue
        with open(name, "rb") as stream:
            lines = stream.read().split(b"\n")
        if name.endswith(CODE) and len(lines) - 1 > MAX_LINES:
            print(f"{name}: {len(lines) - 1} lines, at most {MAX_LINES}: split it")
            bad += 1
        if name.startswith("tests/fuzz/corpus/"):
            continue
        for number, line in enumerate(lines, 1):
            if LOCAL_PATH.search(line):
                print(f"{name}:{number}: a path of one machine: {line.decode(errors='replace')}")
                bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
