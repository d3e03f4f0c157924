#!/bin/bash
# Where the instructions of a request go: runs instr.sh under callgrind and prints the functions
# with most user instructions per request, start and stop of the server subtracted.
set -euo pipefail

usage() {
    cat >&2 <<'END'
usage: profile.sh [-T TOP] [-i] [-f] [OPTIONS OF instr.sh] [-- SERVER COMMAND...]
  -T TOP   so many functions (40)
  -i       inclusive: with what each function calls
  -f       by source file too: shows what was inlined from where
For instance  profile.sh -l '-c 1 -D 16'   profile.sh -l '-c 1 -s 1024 -E' -c native-thread.yaml
END
    exit 2
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
top=40 inclusive=no files=no pass=()
while getopts T:ifn:l:c:p:u: o; do
    case $o in
        T) top=$OPTARG ;;
        i) inclusive=yes ;;
        f) files=yes ;;
        n | l | c | p | u) pass+=("-$o" "$OPTARG") ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
result=$("$here/instr.sh" "${pass[@]}" -t callgrind -k -- "$@")
dir=$(sed -n 's/^callgrind files: //p' <<<"$result")
trap 'rm -rf "$dir"' EXIT
head -n 1 <<<"$result"
n=$(sed -n 's/.*"requests": \([0-9]*\).*/\1/p' <<<"$result")

# Prints "RUN COUNT FILE:FUNCTION [OBJECT]" for every function of the run with $1 requests.
functions() {
    local file
    for file in "$dir/$1"/cg.*; do
        callgrind_annotate --threshold=100 --auto=no --inclusive=$inclusive "$file" |
            sed -nE "s/^ *([0-9,]+) +\([ 0-9.]+%\) +(.*:.*)/$1 \1 \2/p"
    done
}

# A function appears once for every file that it has code from. The parts add up, but each one's
# inclusive count is already the whole.
printf '%12s  %s\n' instructions function
{ functions "$n"; functions $((2 * n)); } |
    awk -v n="$n" -v files=$files -v inclusive=$inclusive -v root="$root/" '
        {
            run = $1
            count = $2
            gsub(",", "", count)
            sub(/^[^ ]+ [^ ]+ /, "")
            object = ""
            if (match($0, / \[[^]]*\]$/)) {         # not named again for what was inlined
                object = substr($0, RSTART + 2, RLENGTH - 3)
                sub(/.*\//, "", object)
                $0 = substr($0, 1, RSTART - 1)
            }
            if (index($0, root) == 1)
                $0 = substr($0, length(root) + 1)
            if (files == "no")
                sub(/^.*:/, "")
            if (object != "")
                from[$0] = "  [" object "]"
            names[$0]
            if (inclusive == "no")
                count += counts[run, $0]
            if (count + 0 > counts[run, $0] + 0)
                counts[run, $0] = count
        }
        END {
            for (name in names) {
                each = (counts[2 * n, name] - counts[n, name]) / n
                if (each >= 0.05)
                    printf "%12.1f  %s%s\n", each, name, from[name]
            }
        }' | sort -k1,1nr -s | head -n "$top" || [ $? = 141 ]
