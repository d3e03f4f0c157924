#!/bin/bash
# Builds toxiproxy into build/toxiproxy/VERSION/server, or does nothing where it is. Needs Go 1.23; any
# number of runs may go on at once.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
version=2.12.0
out=$root/build/toxiproxy/$version

[[ ! -x $out/server ]] || exit 0
mkdir -p "$root/build/toxiproxy"
exec 9>"$root/build/toxiproxy/lock"
flock 9
[[ ! -x $out/server ]] || exit 0
if ! command -v go >/dev/null; then
    echo "toxiproxy.sh: no go" >&2
    exit 1
fi
# GOTOOLCHAIN=local: an older Go is said to be too old, it does not fetch another.
if ! (cd / && GOBIN="$out.part" CGO_ENABLED=0 GOTOOLCHAIN=local \
    timeout 120 go install "github.com/Shopify/toxiproxy/v2/cmd/server@v$version") </dev/null >"$out.log" 2>&1; then
    tail -n 5 "$out.log" >&2
    echo "toxiproxy.sh: no toxiproxy $version" >&2
    exit 1
fi
mkdir -p "$out"
mv "$out.part/server" "$out/server"
