#!/bin/bash
# Static checks: lint.sh [CHECK...], all of them without an argument. Goes on after a failed one.
# Looks at every file that git knows or would add.
# shellcheck disable=SC2317  # the checks are called by name
set -uo pipefail

cd "$(dirname "$0")/../.." || exit 1
support=tests/support
jobs=${JOBS:-$(nproc)}
checks=("$@")
((${#checks[@]} > 0)) || checks=(format files includes headers shell tidy)

# Without git (an archive, or a tree of another user): everything but the build.
mapfile -t files < <({
    git ls-files --cached --others --exclude-standard 2>/dev/null ||
        find . \( -name .git -o -path ./build -o -name __pycache__ \) -prune -o -type f -printf '%P\n'
} | while read -r file; do
    [[ ! -f $file ]] || echo "$file"
done)
if ((${#files[@]} == 0)); then
    echo "lint.sh: no files found" >&2
    exit 1
fi

# The formatter's output differs from one major version to the next.
formatter=$(command -v clang-format-14 || command -v clang-format)

sources() {
    for file in "${files[@]}"; do
        [[ $file != *.[ch] ]] || printf '%s\0' "$file"
    done
}

check_format() {
    local log=build/lint-format.log
    mkdir -p build
    sources | xargs -0 -r "$formatter" --dry-run -Werror --style=file >"$log" 2>&1 && return 0
    sed -n 's/^\([^ :]*\):\([0-9]*\):.*/\1 \2/p' "$log" | sort -u | cut -d ' ' -f 1 | uniq -c |
        sed 's/^ *\([0-9]*\) \(.*\)/    \2: \1 lines/'
    echo "    'make format' rewrites them; all of it is in $log"
    return 1
}

# Rewrites; only by name, never part of a check.
check_rewrite() { sources | xargs -0 -r "$formatter" -i --style=file; }

check_files() { printf '%s\0' "${files[@]}" | python3 "$support/check_files.py"; }
check_includes() { printf '%s\0' "${files[@]}" | python3 "$support/check_includes.py"; }

check_headers() {
    configure && printf '%s\0' "${files[@]}" | python3 "$support/check_headers.py" build/lint
}

check_shell() {
    local scripts=()
    for file in "${files[@]}"; do
        if [[ $file == *.sh ]] || { [[ ${file##*/} != *.* ]] &&
            head -c 64 "$file" | head -n 1 | grep -aqE '^#!.*\b(ba|da)?sh\b'; }; then
            scripts+=("$file")
        fi
    done
    ((${#scripts[@]} == 0)) || shellcheck "${scripts[@]}"
}

check_tidy() { configure && python3 "$support/run_tidy.py" -j "$jobs" build/lint; }

# The preset is only configured, and generated sources are written: its compile commands are clang's.
configure() {
    [[ -z ${configured:-} ]] || return 0
    mkdir -p build
    if ! { cmake --preset lint && cmake --build build/lint --target generated; } \
        >build/lint-configure.log 2>&1; then
        tail -n 40 build/lint-configure.log
        return 1
    fi
    configured=yes
}

failed=0
for check in "${checks[@]}"; do
    start=$SECONDS
    if "check_$check"; then
        result=ok
    else
        result=FAIL
        failed=1
    fi
    printf '    %-9s %-4s %3d s\n' "$check" "$result" $((SECONDS - start))
done
exit $failed
