#!/usr/bin/env bash
# Builds the agent's image as beta9-worker and beta9-worker:dev, from whatever base can be had here.
#
#   scripts/image.sh              into the Docker Engine
#   scripts/image.sh FILE.tar     and from there into an archive, as a release has it
#   scripts/image.sh --base       only see to a base; print its name
#
#   BASE_IMAGE          the base; without it the Dockerfile's, or where that cannot be pulled one made by debootstrap
#   BUILD_IMAGE         where packages are put together; without it the base, with the certificates that pip is told
#                       here (PIP_CERT), since what checks traffic on the way here does so in a build, too
#   PIP_INDEX_URL, …    pip's settings, handed on to the build alone
#   DOCKER              the command [docker]
#   DOCKER_BUILD_ARGS   more arguments for `docker build`, such as --network host
set -Eeuo pipefail

DOCKER=${DOCKER:-docker}
MADE_BASE=beta9-worker-base:bookworm
MADE_BUILD=beta9-worker-build:bookworm

main() {
    cd "$(dirname "$0")/.."
    see_to_engine >&2
    local base=${BASE_IMAGE:-} build=${BUILD_IMAGE:-} each more=()
    [[ -n $base ]] || base=$(find_base)
    if [[ ${1:-} == --base ]]; then
        echo "$base"
        return
    fi
    [[ -n $build ]] || build=$(with_certificates "$base")
    for each in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT; do
        [[ -z ${!each:-} ]] || more+=(--build-arg "$each")
    done
    read -ra extra <<<"${DOCKER_BUILD_ARGS:-}"
    "$DOCKER" build --tag beta9-worker:dev --tag beta9-worker:latest \
        --build-arg "BASE_IMAGE=$base" --build-arg "BUILD_IMAGE=$build" "${more[@]}" \
        --build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
        --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
        "${extra[@]}" .
    echo "Built beta9-worker:dev, also called beta9-worker, on $base."
    [[ -z ${DOCKER_HOST:-} ]] || echo "It is in the engine at DOCKER_HOST=$DOCKER_HOST"
    [[ -z ${1:-} ]] || save "$1"
}

# save FILE: at one stroke, and by the one name. A machine takes away again what it has loaded under the last name of an
# archive.
save() {
    mkdir -p "$(dirname "$1")"
    "$DOCKER" save --output "$1.new" beta9-worker:dev
    mv "$1.new" "$1"
}

see_to_engine() {
    command -v "$DOCKER" >/dev/null && scripts/engine.sh start && return
    # Nothing there: as root the packages are installed, otherwise they are named.
    scripts/setup.sh container
    scripts/engine.sh start
}

find_base() {
    local named
    named=$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)
    if has "$named" || timeout 300 "$DOCKER" pull --quiet "$named" >/dev/null 2>&1; then
        echo "$named"
        return
    fi
    if ! has "$MADE_BASE"; then
        echo "$named cannot be pulled here; making a base by debootstrap, which takes a minute or two" >&2
        command -v debootstrap >/dev/null || scripts/setup.sh container >&2
        scripts/base_image.sh "$MADE_BASE" >&2
    fi
    echo "$MADE_BASE"
}

has() {
    [[ -n $("$DOCKER" images --quiet "$1") ]]
}

# The base itself, or the base plus the file of certificates that pip uses on this machine.
with_certificates() {
    local base=$1 file=${PIP_CERT:-}
    [[ -n $file ]] || file=$(python3 -m pip config get global.cert 2>/dev/null) || true
    if [[ ! -r $file ]]; then
        echo "$base"
        return
    fi
    context=$(mktemp -d)
    trap 'rm -rf "$context"' EXIT
    install -m 0644 "$file" "$context/certificates.crt"
    printf 'FROM %s\nCOPY certificates.crt /certificates.crt\nENV PIP_CERT=/certificates.crt\n' "$base" \
        >"$context/Dockerfile"
    "$DOCKER" build --quiet --tag "$MADE_BUILD" "$context" >/dev/null 2>&1
    echo "$MADE_BUILD"
}

main "$@"
