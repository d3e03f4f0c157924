#!/usr/bin/env python3
"""Sums up ctest's JUnit files and the stages of run-tests.sh.

The last line is 'N passed, N failed', over all files; a stage that failed without a failing test
(a build, a lint check, a fuzz target, coverage) counts as one failure. Exits 1 on any failure and
where no test has passed.
"""

import argparse
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def count(path):
    """(passed, names of the failed, skipped) of one JUnit file of ctest."""
    passed, skipped, failed = 0, 0, []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.get("status") == "fail":
            failed.append(case.get("name"))
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            # ctest files a program that is not there under "notrun" too: that is a failure.
            skipped_by_choice = case.get("status") == "disabled" or "SKIP" in ElementTree.tostring(
                case, encoding="unicode")
            if skipped_by_choice:
                skipped += 1
            else:
                failed.append(case.get("name"))
        else:
            passed += 1
    return passed, failed, skipped


def line(passed, failed, skipped):
    """The closing line in the form that CI systems read."""
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--stages", type=Path, help="stages.txt of run-tests.sh")
    parser.add_argument("--stage", help="print one line for this stage only")
    opt = parser.parse_args()

    passed = skipped = 0
    failed = []
    failed_stages = set()
    for path in opt.files:
        if not path.exists():
            continue
        counts = count(path)
        passed += counts[0]
        skipped += counts[2]
        failed += [f"{path.stem}: {name}" for name in counts[1]]
        if counts[1]:
            failed_stages.add(path.stem)

    if opt.stage:
        print(f"    {opt.stage}: {line(passed, len(failed), skipped)}")
        return 0

    failures = len(failed)
    if opt.stages:
        text = opt.stages.read_text() if opt.stages.exists() else "start FAIL 0"
        for name, result, seconds in map(str.split, text.splitlines()):
            print(f"  {name:<10} {result:<5} {seconds:>5} s")
            if result != "ok" and name not in failed_stages:
                failed.append(f"stage {name}")
                failures += 1
    for name in failed:
        print(f"  FAILED {name}")
    print(line(passed, failures, skipped))
    return 1 if failures or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
