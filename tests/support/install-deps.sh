#!/bin/bash
# Installs the Debian packages that a list needs and that are missing: install-deps.sh build|test...
# Asks dpkg first, so a run with nothing to do takes a few milliseconds and no network.
set -euo pipefail

build=(
    build-essential cmake ninja-build ccache pkg-config git ca-certificates curl python3
    libevent-dev libfyaml-dev libjansson-dev libhwloc-dev libxxhash-dev uthash-dev libjemalloc-dev
    libcurl4-openssl-dev librdkafka-dev libcmocka-dev node-llhttp libprotobuf-c-dev
    protobuf-c-compiler python3-dev
)
test=(
    python3-venv clang clang-format clang-tidy llvm libclang-rt-14-dev gcovr shellcheck valgrind
    procps util-linux openssl openjdk-17-jre-headless maven python3-sklearn
)

want=()
for list in "${@:-build}"; do
    case $list in
        build) want+=("${build[@]}") ;;
        test) want+=("${test[@]}") ;;
        *)
            echo "usage: install-deps.sh build|test..." >&2
            exit 2
            ;;
    esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "deps: not a Debian system; see that you have: ${want[*]}" >&2
    exit 0
fi

# A package that dpkg has never heard of is only a message on stderr and a status.
have=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${want[@]}" 2>/dev/null || true)
missing=()
for package in "${want[@]}"; do
    [[ $'\n'$have$'\n' == *$'\n'"installed $package"$'\n'* ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
    exit 0
fi

as_root=()
if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
        echo "deps: missing packages and neither root nor sudo: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "deps: installing ${missing[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
    -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1; then
    cat "$log" >&2
    echo "deps: apt-get failed" >&2
    exit 1
fi
