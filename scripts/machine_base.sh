#!/usr/bin/env bash
# Builds the archive of a base image for the agent's image, as a site without a Debian mirror would provide: it contains
# what the Dockerfile installs, and no package sources.
#
#   scripts/machine_base.sh FILE.tar
#
# tests/container/ and `scripts.bench_boot --image source` use it as BETA9_BASE_IMAGE. It needs the base that
# scripts/image.sh provides, a Docker Engine, and Debian's packages. DOCKER overrides the command.
set -Eeuo pipefail

DOCKER=${DOCKER:-docker}
NAME=site/base:bookworm

main() {
    local target=${1:?the file to write} base
    cd "$(dirname "$0")/.."
    mkdir -p "$(dirname "$target")"
    log=$(mktemp) new=$target.new
    trap 'rm -f "$log" "$new"' EXIT
    base=$(scripts/image.sh --base)
    if ! dockerfile | "$DOCKER" build --tag "$NAME" --build-arg "BASE_IMAGE=$base" - >"$log" 2>&1; then
        tail -40 "$log" >&2
        return 1
    fi
    "$DOCKER" save --output "$new" "$NAME"
    "$DOCKER" rmi "$NAME" >/dev/null
    mv "$new" "$target"
}

dockerfile() {
    cat <<END
ARG BASE_IMAGE
FROM \$BASE_IMAGE
RUN apt-get update && apt-get install -y --no-install-recommends $(packages) \\
    && rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/* /var/cache/apt/* /etc/ssh/ssh_host_*
END
}

# The package names in the Dockerfile's `apt-get install` commands.
packages() {
    sed -n '/apt-get install/,/&& rm/p' Dockerfile | sed 's/.*apt-get install//; /&& rm/d; s/\\$//' |
        tr -s ' ' '\n' | grep -E '^[a-z0-9][a-z0-9.+-]+$' | sort -u | paste -sd' '
}

main "$@"
