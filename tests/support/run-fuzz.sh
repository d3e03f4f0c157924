#!/bin/bash
# Runs every fuzz target of build/fuzz: run-fuzz.sh [SECONDS [JOBS]]. SECONDS is the time of the
# whole run; JOBS targets run at a time. Saved inputs are read from tests/fuzz/corpus/<name>/, new
# ones go to build/fuzz/corpus/<name>/, an input that fails to build/fuzz/artifacts/.
set -uo pipefail

cd "$(dirname "$0")/../.." || exit 1
seconds=${1:-60}
jobs=${2:-$(nproc)}
artifacts=build/fuzz/artifacts

shopt -s nullglob
targets=(build/fuzz/tests/fuzz/fuzz_*)
if ((${#targets[@]} == 0)); then
    echo "    no fuzz targets"
    exit 0
fi
mkdir -p "$artifacts" build/fuzz/log
rounds=$(((${#targets[@]} + jobs - 1) / jobs))
each=$((seconds / rounds > 0 ? seconds / rounds : 1))

# one TARGET: fuzz it for $each seconds; prints one line, and the log's end where it fails.
one() {
    local name=${1##*/fuzz_} log options=()
    log=build/fuzz/log/$name.log
    mkdir -p "build/fuzz/corpus/$name"
    [[ ! -f tests/fuzz/$name.dict ]] || options+=(-dict="tests/fuzz/$name.dict")
    local dirs=("build/fuzz/corpus/$name")
    [[ ! -d tests/fuzz/corpus/$name ]] || dirs+=("tests/fuzz/corpus/$name")
    if ASAN_OPTIONS=detect_leaks=1 "$1" -max_total_time="$each" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$artifacts/$name-" -print_final_stats=1 "${options[@]}" "${dirs[@]}" \
        >"$log" 2>&1; then
        printf '    %-20s ok    %s runs\n' "$name" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    else
        printf '    %-20s FAIL  replay: %s build/fuzz/artifacts/%s-*\n' "$name" "$1" "$name"
        tail -n 60 "$log"
        return 1
    fi
}

failed=0
running=0
for target in "${targets[@]}"; do
    one "$target" &
    running=$((running + 1))
    if ((running >= jobs)); then
        wait -n || failed=1
        running=$((running - 1))
    fi
done
while ((running > 0)); do
    wait -n || failed=1
    running=$((running - 1))
done
exit $failed
