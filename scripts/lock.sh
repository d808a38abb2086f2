#!/usr/bin/env bash
# Updates requirements/*.lock, with hashes, for every supported Python version.
set -Eeuo pipefail

main() {
    cd "$(dirname "$0")/.."
    local compile=(.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10
        --generate-hashes --no-emit-index-url --no-header pyproject.toml)
    "${compile[@]}" -o requirements/runtime.lock
    "${compile[@]}" --group dev -c requirements/runtime.lock -o requirements/dev.lock
    # terraform.lock shares dev.lock's environment, hence its versions; checkov has an environment of its own.
    "${compile[@]/pyproject.toml/requirements/terraform.in}" -c requirements/dev.lock -o requirements/terraform.lock
    "${compile[@]/pyproject.toml/requirements/checkov.in}" -o requirements/checkov.lock
    # Packages that are needed first, or alone, have locks of their own with the same pins.
    extract uv >requirements/uv.lock
    extract setuptools >requirements/build.lock
}

# extract PACKAGE: print its pin and hashes from dev.lock.
extract() {
    awk -v name="$1" '/^[a-z]/ { on = index($0, name "==") == 1 } on && !/^ +#/' requirements/dev.lock | sed '$ s/ \\$//'
}

main "$@"
