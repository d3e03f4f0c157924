#!/bin/bash
# Prints the path of promtool, Prometheus' own checker: the installed one, or build/tools/promtool out
# of Debian's package, which is unpacked only, so that no server is installed. Fails where neither is
# to be had.
set -euo pipefail

if command -v promtool; then
    exit 0
fi
root=$(cd "$(dirname "$0")/../.." && pwd)
tool=$root/build/tools/promtool
if [[ ! -x $tool ]]; then
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    cd "$dir"
    apt-get -q download prometheus >&2
    dpkg -x prometheus_*.deb .
    mkdir -p "${tool%/*}"
    mv usr/bin/promtool "$tool.$$"
    mv "$tool.$$" "$tool"
fi
echo "$tool"
