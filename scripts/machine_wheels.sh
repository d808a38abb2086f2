#!/usr/bin/env bash
# Downloads the locked Python packages of the agent's image, for the Python version of its base (Debian 12: 3.11).
#
#   scripts/machine_wheels.sh DIRECTORY
#
# tests/machine/ serves them to its virtual machine, which cannot reach a package index.
set -Eeuo pipefail

main() {
    local directory=${1:?the directory to create} each platforms=()
    cd "$(dirname "$0")/.."
    for each in manylinux_2_36 manylinux_2_28 manylinux_2_17 manylinux2014; do
        platforms+=(--platform "${each}_x86_64")
    done
    rm -rf -- "$directory.new"
    .venv/bin/python -m pip download --quiet --disable-pip-version-check --dest "$directory.new" --no-deps \
        --require-hashes --only-binary :all: --implementation cp --python-version 311 --abi cp311 --abi abi3 --abi none \
        "${platforms[@]}" --platform any -r requirements/runtime.lock -r requirements/build.lock
    rm -rf -- "$directory"
    mv "$directory.new" "$directory"
}

main "$@"
