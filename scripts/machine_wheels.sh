#!/usr/bin/env bash
# Fetches the locked Python packages that the agent's image is made of, for the Python of its base (Debian 12: 3.11).
#
#   scripts/machine_wheels.sh DIRECTORY
#
# tests/machine/ serves them to its virtual machine, which builds the image without a package index of its own.
set -Eeuo pipefail

main() {
    local directory=${1:?the directory to fill} each platforms=()
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
