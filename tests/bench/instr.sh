#!/bin/bash
# Counts user instructions per request of a server, in a way that noise cannot disturb: the same
# run with N and with 2N requests, and the difference divided by N. Uses `perf stat` where the
# machine has counters, otherwise valgrind's callgrind. All processes of the server count.
set -euo pipefail

usage() {
    cat >&2 <<'END'
usage: instr.sh [OPTIONS] [-- SERVER COMMAND...]     (no command: stator)
  -n N        requests in the shorter run (2000)
  -l OPTIONS  options for ldgen ('-c 1 -D 1'); with one connection the batches, and so the counts,
              stay alike from run to run
  -c CONFIG   configuration beside this script that stator runs (native.yaml)
  -p PORT     where the server answers (a free one; {port} in the command is replaced by it)
  -u PATH     path of the request (/)
  -t TOOL     perf or callgrind (perf where it counts)
  -k          keep the callgrind files and print their folder
The server is started in the repository's root, must stay in the foreground and end on SIGTERM.
END
    exit 2
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(realpath -m "${BENCH_OUT:-${STATOR_BUILD:-$root/build}/bench}")
n=2000 load='-c 1 -D 1' config=native.yaml port='' path=/ tool='' keep=no kept=no
while getopts n:l:c:p:u:t:k o; do
    case $o in
        n) n=$OPTARG ;;
        l) load=$OPTARG ;;
        c) config=$OPTARG ;;
        p) port=$OPTARG ;;
        u) path=$OPTARG ;;
        t) tool=$OPTARG ;;
        k) keep=yes ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
export PYTHONDONTWRITEBYTECODE=1
if [ -z "$port" ]; then
    port=$(cd "$here" && python3 -c 'import procs; print(procs.free_port())')
fi
dir=$(mktemp -d "$out/instr-XXXXXX")
server=

cleanup() {
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
        kill -KILL "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    [ $kept = yes ] || rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

if [ $# -gt 0 ]; then
    command=("${@//\{port\}/$port}")
else
    mapfile -t command < <(python3 "$here/subject.py" "$dir" "$port" "$config")
fi
cd "$root"

wait_port() {
    for _ in $(seq 600); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            return
        fi
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    echo "instr.sh: the server did not open port $port" >&2
    cat "$dir/server.log" >&2
    exit 1
}

# Runs the server under the tool for $1 requests; prints its user instructions.
count() {
    local requests=$1 files=$dir/$1 child
    mkdir -p "$files"
    if [ "$tool" = perf ]; then
        perf stat -x, -e instructions:u -o "$files/perf" \
            -- "${command[@]}" >"$dir/server.log" 2>&1 &
    else
        valgrind -q --tool=callgrind --trace-children=yes \
            --callgrind-out-file="$files/cg.%p" -- "${command[@]}" >"$dir/server.log" 2>&1 &
    fi
    server=$!
    wait_port
    # shellcheck disable=SC2086
    "$out/ldgen" -d 120 -n "$requests" $load "http://127.0.0.1:$port$path" >"$files/client" || {
        echo "instr.sh: invalid run: $(cat "$files/client" "$dir/server.log")" >&2
        exit 1
    }
    if [ "$tool" = perf ]; then     # SIGTERM to perf itself would lose the count
        read -r child _ <"/proc/$server/task/$server/children"
        kill -TERM "$child"
    else
        kill -TERM "$server"
    fi
    wait "$server" 2>/dev/null || true
    server=
    if [ "$tool" = perf ]; then
        cut -d, -f1 <"$files/perf" | grep -E '^[0-9]+$'
    else
        cat "$files"/cg.* | awk '/^(summary|totals):/ {if ($1 == "summary:") s += $2; else t += $2}
                                 END {print s ? s : t}'
    fi
}

if [ -z "$tool" ]; then
    tool=callgrind
    if perf stat -x, -e instructions:u true 2>&1 | grep -qE '^[0-9]+,'; then
        tool=perf
    fi
fi
count "$n" >"$dir/first"
count $((2 * n)) >"$dir/second"
first=$(cat "$dir/first") second=$(cat "$dir/second")
if [ "$((second - first))" -le 0 ]; then
    echo "instr.sh: no counts; does the server end on SIGTERM, as the user that started it?" >&2
    exit 1
fi
printf '{"tool": "%s", "requests": %d, "instructions_per_request": %.1f, "start_and_stop": %d}\n' \
    "$tool" "$n" "$(awk "BEGIN {print ($second - $first) / $n}")" $((2 * first - second))
if [ $keep = yes ]; then
    echo "callgrind files: $dir"
    kept=yes
fi
