#!/bin/bash
# Gets the optional peers of the benchmarks: nginx, wrk and Node.js from Debian (as root), and
# fasthttp_worker, built by Go, and uvicorn from PyPI. What cannot be had is named and left out by bench.py.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(realpath -m "${BENCH_OUT:-${STATOR_BUILD:-$root/build}/bench}")
mkdir -p "$out"

# Debian package and the file that says it is there.
packages=()
need() {
    if [ ! -e "$2" ] && ! command -v "$2" >/dev/null; then
        packages+=("$1")
    fi
}
need nginx-light nginx
need libnginx-mod-http-echo /usr/lib/nginx/modules/ngx_http_echo_module.so
need wrk wrk
need nodejs node
need valgrind valgrind
if [ ${#packages[@]} -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup.sh: not root: not installed: ${packages[*]}"
    elif ! { apt-get update -qq &&
        apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >"$out/apt.log" 2>&1; then
        echo "setup.sh: not all installed: ${packages[*]} (see $out/apt.log)"
    fi
fi

# GOTOOLCHAIN=local: an older Go is said to be too old, it does not fetch another.
if ! command -v go >/dev/null; then
    echo "setup.sh: no go: fasthttp_worker is not built"
elif ! (cd "$here/peers/fasthttp_worker" &&
    CGO_ENABLED=0 GOTOOLCHAIN=local go build -o "$out/fasthttp_worker" .) >"$out/go.log" 2>&1; then
    echo "setup.sh: fasthttp_worker is not built: $(tail -n 1 "$out/go.log")"
fi

if ! { [ -x "$out/peers/bin/python" ] || /usr/bin/python3 -m venv "$out/peers"; } >"$out/pip.log" 2>&1 ||
    ! "$out/peers/bin/pip" install -q -r "$here/peers/requirements.txt" >>"$out/pip.log" 2>&1; then
    echo "setup.sh: uvicorn is not installed: $(tail -n 1 "$out/pip.log")"
fi
exit 0
