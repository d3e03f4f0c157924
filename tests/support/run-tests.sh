#!/bin/bash
# Runs test stages, and goes on after a failed one: run-tests.sh STAGE...
#   release asan tsan coverage fuzz debug   build that preset, then run its tests
#   lint quick                              static checks; unit tests and one request
#   all                                     what 'make test' does
# Leaves build/reports/<stage>.xml (JUnit) and stages.txt, one line a stage: name, ok or FAIL.
# Environment: JOBS (number of CPUs), TEST_JOBS (twice that), FUZZ_SECONDS (60), CI=true (warnings are
# errors).
set -uo pipefail

cd "$(dirname "$0")/../.." || exit 1
support=tests/support
reports=build/reports
jobs=${JOBS:-$(nproc)}
test_jobs=${TEST_JOBS:-$((2 * jobs))} # most tests wait for a clock or a peer
fuzz_seconds=${FUZZ_SECONDS:-60}

# build PRESET: configure and build; the full log only where it fails.
build() {
    local log=$reports/build-$1.log flags=()
    [[ ${CI:-} != true ]] || flags=(-DST_WERROR=ON)
    if ! { cmake --preset "$1" "${flags[@]}" &&
        cmake --build --preset "$1" -j "$jobs" -- -k 0; } >"$log" 2>&1; then
        grep -vE '^\[[0-9]+/[0-9]+\] |^[^ ]*/(cc|gcc|clang|ccache) |^--' "$log" | tail -n 200
        return 1
    fi
    grep -A6 -E 'warning:' "$log" || true
}

# suite PRESET [ctest options]: its tests, as stage $name; the output of the failing ones is shown.
suite() {
    local preset=$1
    shift
    "$support/venv.sh" || return 1
    ctest --preset "$preset" -j "$test_jobs" \
        --output-junit "$PWD/$reports/$name.xml" "$@" >"$reports/ctest-$name.log" 2>&1
    local rc=$?
    if ((rc != 0)); then
        grep -vE '^ +Start +[0-9]+:|Test +#[0-9]+: .*Passed' "$reports/ctest-$name.log" |
            tail -n 400
    fi
    python3 "$support/junit_sum.py" --stage "$name" "$reports/$name.xml"
    return $rc
}

stage_release() { build release && suite release; }
stage_debug() { build debug && suite debug; }
stage_asan() { build asan && suite asan; }
stage_tsan() { build tsan && suite tsan; }
stage_lint() { "$support/lint.sh"; }
stage_fuzz() { build fuzz && "$support/run-fuzz.sh" "$fuzz_seconds" "$jobs"; }
stage_quick() { build release && suite release -L unit && "$support/smoke.sh" build/stator; }
stage_coverage() {
    # Counts of earlier runs would flatter this one.
    find build/coverage -name '*.gcda' -delete 2>/dev/null
    build coverage || return 1
    local rc=0
    suite coverage || rc=1
    "$support/coverage.sh" build/coverage || rc=1
    return $rc
}

stages=()
for name in "$@"; do
    case $name in
        all) stages+=(release lint asan tsan fuzz coverage) ;;
        release | debug | asan | tsan | coverage | fuzz | lint | quick) stages+=("$name") ;;
        *)
            echo "run-tests.sh: no stage '$name'; see the top of this script" >&2
            exit 2
            ;;
    esac
done
if ((${#stages[@]} == 0)); then
    echo "usage: run-tests.sh STAGE..." >&2
    exit 2
fi

rm -rf "$reports"
mkdir -p "$reports"
"$support/install-deps.sh" build test || exit 1
# Beside the first build; a test that needs a Kafka waits for it, and says what went wrong. Without
# toxiproxy the test that uses it leaves out what needs it.
case " ${stages[*]} " in
    *" release "* | *" debug "* | *" asan "* | *" tsan "* | *" coverage "*)
        { "$support/kafka.sh" && "$support/toxiproxy.sh"; } >"$reports/kafka.log" 2>&1 &
        ;;
esac
failed=0
for name in "${stages[@]}"; do
    echo "==> $name"
    start=$SECONDS
    if "stage_$name"; then
        result=ok
    else
        result=FAIL
        failed=$((failed + 1))
    fi
    printf '<== %-8s %-4s %4d s\n' "$name" "$result" $((SECONDS - start))
    echo "$name $result $((SECONDS - start))" >>"$reports/stages.txt"
done

echo
python3 "$support/junit_sum.py" --stages "$reports/stages.txt" "$reports"/*.xml
((failed == 0))
