#!/usr/bin/env python3
"""Prints line coverage by folder from gcovr's JSON and fails where a folder is under its floor."""

import json
import sys

# Folder -> least share of lines, in percent. A file counts for the longest folder that holds it.
FLOORS = {"processor/core": 85, "processor/net": 85, "processor": 85}
WORST = 8  # so many files with the most uncovered lines are named


def folder_of(name):
    """The folder under which a file is reported: one with a floor, else its own."""
    holders = [folder for folder in FLOORS if name.startswith(folder + "/")]
    return max(holders, key=len) if holders else name.rpartition("/")[0]


def main():
    with open(sys.argv[1], encoding="utf-8") as stream:
        files = json.load(stream)["files"]
    folders, missing = {}, []
    for entry in files:
        lines = [line for line in entry["lines"] if not line.get("gcovr/noncode")]
        hit = sum(1 for line in lines if line["count"] > 0)
        total = folders.setdefault(folder_of(entry["file"]), [0, 0])
        total[0] += hit
        total[1] += len(lines)
        missing.append((len(lines) - hit, entry["file"], hit, len(lines)))

    failed = False
    for folder, (hit, lines) in sorted(folders.items()):
        percent = 100 * hit / lines if lines else 100.0
        floor = FLOORS.get(folder)
        low = floor is not None and percent < floor
        failed = failed or low
        note = f"  under the floor of {floor} %" if low else ""
        print(f"    {folder:<24} {percent:5.1f} %  {hit:>5} of {lines} lines{note}")
    if failed:
        for count, name, hit, lines in sorted(filter(lambda entry: entry[0], missing), reverse=True)[:WORST]:
            print(f"      {name}: {count} of {lines} lines not run ({100 * hit / max(lines, 1):.0f} %)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
