#!/usr/bin/env bash
# Resolves the dependencies anew and writes requirements/*.lock, with hashes, for every Python we support.
set -Eeuo pipefail

main() {
    cd "$(dirname "$0")/.."
    local compile=(.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10
        --generate-hashes --no-emit-index-url --no-header pyproject.toml)
    "${compile[@]}" -o requirements/runtime.lock
    "${compile[@]}" --group dev -c requirements/runtime.lock -o requirements/dev.lock
    # In the same environment as dev.lock, so with its versions; checkov has an environment of its own.
    "${compile[@]/pyproject.toml/requirements/terraform.in}" -c requirements/dev.lock -o requirements/terraform.lock
    "${compile[@]/pyproject.toml/requirements/checkov.in}" -o requirements/checkov.lock
    # What is needed before all else, or alone, has a lock of its own: the same pins.
    only uv >requirements/uv.lock
    only setuptools >requirements/build.lock
}

only() {
    awk -v name="$1" '/^[a-z]/ { on = index($0, name "==") == 1 } on && !/^ +#/' requirements/dev.lock | sed '$ s/ \\$//'
}

main "$@"
