#!/usr/bin/env bash
# Pins the base image in the Dockerfile, the only place that names it: `debian:bookworm-slim` → the same `@sha256:…`.
#
#   scripts/pin_base.sh DIGEST            sha256:<64 hex>, as `docker buildx imagetools inspect` prints it
#   scripts/pin_base.sh --name            print the base image's name without its digest
set -Eeuo pipefail

main() {
    cd "${BETA9_CHECKOUT:-$(dirname "$0")/..}"
    local name
    name=$(sed -n 's/^ARG BASE_IMAGE=\([^@]*\).*/\1/p' Dockerfile)
    [[ -n $name ]] || fail 'the Dockerfile contains no line ARG BASE_IMAGE=NAME'
    case ${1:-} in
    --name) printf '%s\n' "$name" ;;
    sha256:*)
        [[ $1 =~ ^sha256:[0-9a-f]{64}$ ]] || fail "$1 is not a digest; expected sha256: and 64 hexadecimal characters"
        sed -i "s|^ARG BASE_IMAGE=.*|ARG BASE_IMAGE=$name@$1|" Dockerfile
        ;;
    *) fail 'usage: scripts/pin_base.sh DIGEST | --name' ;;
    esac
}

fail() {
    echo "pin_base.sh: $1" >&2
    exit 1
}

main "$@"
