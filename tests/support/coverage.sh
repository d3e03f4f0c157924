#!/bin/bash
# Line coverage by folder from the counts that the tests left: coverage.sh BUILD_DIR. Fails under
# the floors in coverage_gate.py. Leaves coverage.json in BUILD_DIR.
set -euo pipefail

build=${1:?usage: coverage.sh BUILD_DIR}
cd "$(dirname "$0")/../.."
gcovr --root . --filter processor/ --filter triggers/ --filter runtimes/ \
    --gcov-ignore-parse-errors -j "$(nproc)" --json "$build/coverage.json" "$build"
python3 tests/support/coverage_gate.py "$build/coverage.json"
