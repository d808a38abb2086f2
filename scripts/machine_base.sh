#!/usr/bin/env bash
# Makes the root file system of a base image for the agent's image, as a site without a Debian mirror would bring one: a
# minimal Debian with what the Dockerfile installs already in it, and no package sources.
#
#   scripts/machine_base.sh FILE.tar
#
# tests/machine/ serves it to its virtual machine as BETA9_BASE_IMAGE. As root, from Debian's packages, a minute or two.
set -Eeuo pipefail

SUITE=bookworm
main() {
    local target=${1:?the file to make}
    cd "$(dirname "$0")/.."
    mkdir -p "$(dirname "$target")"
    log=$(mktemp) new=$target.new
    trap 'rm -f "$log" "$new"' EXIT
    echo "Making a base image's root file system; takes some minutes, once"
    if ! nice mmdebstrap --variant=minbase --include="$(packages)" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --format=tar \
        --customize-hook="rm -f \"\$1\"/etc/apt/sources.list \"\$1\"/etc/apt/sources.list.d/* \"\$1\"/etc/ssh/ssh_host_*" \
        "$SUITE" - 2>"$log" >"$new"; then
        tail -40 "$log" >&2
        return 1
    fi
    mv "$new" "$target"
}

# The words of every `apt-get install` of the Dockerfile that are neither options nor the shell's.
packages() {
    sed -n '/apt-get install/,/&& rm/p' Dockerfile | sed 's/.*apt-get install//; /&& rm/d; s/\\$//' |
        tr -s ' ' '\n' | grep -E '^[a-z0-9][a-z0-9.+-]+$' | sort -u | paste -sd,
}

main "$@"
