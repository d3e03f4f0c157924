#!/bin/bash
# Starts an example, asks it once and stops it: smoke.sh [STATOR [EXAMPLE]]. Fails where it does not
# answer 200 within 5 s or does not end with status 0 within 5 s of SIGTERM.
set -uo pipefail

cd "$(dirname "$0")/../.." || exit 1
stator=${1:-build/stator}
example=${2:-hello-c}
log=$(mktemp)
pid=

finish() {
    [[ -z $pid ]] || kill -KILL "$pid" 2>/dev/null
    rm -f "$log"
}
trap finish EXIT

fail() {
    echo "    smoke: $1" >&2
    cat "$log" >&2
    exit 1
}

port=$(/usr/bin/python3 -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])')
"$stator" run "docs/examples/$example" --port "$port" >"$log" 2>&1 &
pid=$!
status=000
for ((i = 0; i < 50; i++)); do
    status=$(curl -s -o /dev/null -w '%{http_code}' --max-time 2 "http://127.0.0.1:$port/")
    [[ $status == 000 ]] || break
    kill -0 "$pid" 2>/dev/null || fail "$stator ended"
    sleep 0.1
done
[[ $status == 200 ]] || fail "expected 200, found $status"

kill -TERM "$pid"
for ((i = 0; i < 50; i++)); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
done
! kill -0 "$pid" 2>/dev/null || fail "still there 5 s after SIGTERM"
wait "$pid"
rc=$?
pid=
((rc == 0)) || fail "exit status $rc after SIGTERM"
echo "    smoke: $example answered and stopped"
