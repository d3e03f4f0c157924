#!/bin/bash
# Fetches the jars of a real Kafka into build/kafka/VERSION, or does nothing where they are:
# kafka.sh [VERSION...], all that the tests use without an argument. Any number of runs may go on at
# once; one that was ended is taken up again by the next.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
versions=("$@")
((${#versions[@]} > 0)) || versions=(3.9.1 4.1.1)

mkdir -p "$root/build/kafka"
exec 9>"$root/build/kafka/lock"
for version in "${versions[@]}"; do
    jars=$root/build/kafka/$version
    [[ ! -d $jars ]] || continue
    flock 9
    if [[ ! -d $jars ]]; then
        log=$jars.log
        rm -rf "$jars.part"
        if ! mvn -q -B -f "$root/tests/support/kafka/pom.xml" dependency:copy-dependencies \
            -Dkafka.version="$version" -DincludeScope=runtime -DoutputDirectory="$jars.part" \
            </dev/null >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            echo "kafka.sh: no Kafka $version" >&2
            exit 1
        fi
        mv "$jars.part" "$jars" # whole, or not there
    fi
    flock -u 9
done
