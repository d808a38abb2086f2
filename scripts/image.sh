#!/usr/bin/env bash
# Builds the agent's image as beta9-worker and beta9-worker:dev, on whatever base is available.
#
#   scripts/image.sh              into the Docker Engine
#   scripts/image.sh FILE.tar     and also into an archive, as in a release
#   scripts/image.sh --base       only provide a base, and print its name
#
#   BASE_IMAGE          the base [the Dockerfile's, or one built by debootstrap if that cannot be pulled]
#   BUILD_IMAGE         image for installing Python packages [the base, plus the CA certificates that pip uses on this
#                       host (PIP_CERT), because a TLS-inspecting proxy affects builds, too]
#   PIP_INDEX_URL, …    pip's settings, passed to the build only
#   DOCKER              the command [docker]
#   DOCKER_BUILD_ARGS   more arguments for `docker build`, such as --network host
set -Eeuo pipefail

DOCKER=${DOCKER:-docker}
LOCAL_BASE=beta9-worker-base:bookworm
LOCAL_BUILD=beta9-worker-build:bookworm

main() {
    cd "$(dirname "$0")/.."
    ensure_engine >&2
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
    echo "Built beta9-worker:dev (also tagged beta9-worker) on $base."
    [[ -z ${DOCKER_HOST:-} ]] || echo "It is in the engine at DOCKER_HOST=$DOCKER_HOST"
    [[ -z ${1:-} ]] || save "$1"
}

# save FILE: atomically, and with a single tag, because the machine removes the last tag of an archive after loading it.
save() {
    mkdir -p "$(dirname "$1")"
    "$DOCKER" save --output "$1.new" beta9-worker:dev
    mv "$1.new" "$1"
}

ensure_engine() {
    command -v "$DOCKER" >/dev/null && scripts/engine.sh start && return
    # Docker is missing: as root, setup.sh installs its packages; otherwise it lists them.
    scripts/setup.sh container
    scripts/engine.sh start
}

find_base() {
    local name
    name=$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)
    if has "$name" || timeout 300 "$DOCKER" pull --quiet "$name" >/dev/null 2>&1; then
        echo "$name"
        return
    fi
    if ! has "$LOCAL_BASE"; then
        echo "Cannot pull $name; building a base with debootstrap, which takes a minute or two" >&2
        command -v debootstrap >/dev/null || scripts/setup.sh container >&2
        scripts/base_image.sh "$LOCAL_BASE" >&2
    fi
    echo "$LOCAL_BASE"
}

has() {
    [[ -n $("$DOCKER" images --quiet "$1") ]]
}

# with_certificates BASE: print the base, or an image that adds the CA certificates that pip uses on this host.
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
    "$DOCKER" build --quiet --tag "$LOCAL_BUILD" "$context" >/dev/null 2>&1
    echo "$LOCAL_BUILD"
}

main "$@"
