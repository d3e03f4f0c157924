#!/bin/bash
# Makes build/venv with the packages of tests/requirements.txt, or does nothing where it is made.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$root/build/venv
wanted=$root/tests/requirements.txt

if [[ -x $venv/bin/python ]] && cmp -s "$wanted" "$venv/requirements.txt"; then
    exit 0
fi
python=/usr/bin/python3
[[ -x $python ]] || python=python3
rm -rf "$venv"
mkdir -p "$root/build"
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$wanted"
cp "$wanted" "$venv/requirements.txt"
