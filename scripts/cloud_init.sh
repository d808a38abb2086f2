#!/usr/bin/env bash
# Unpacks the distribution's cloud-init, with the Python packages that it needs, into a directory: for its schema check.
#
# It is not installed, on purpose: an installed cloud-init takes a machine over at its next boot.
set -Eeuo pipefail

main() {
    local place=${1:?a directory to make} packages=() work
    command -v apt-get >/dev/null || { echo "cloud_init.sh: needs apt-get (Debian, Ubuntu)" >&2; exit 1; }
    # Lists that were never fetched; where they were, today's are not needed.
    apt-cache show cloud-init >/dev/null 2>&1 || apt-get -qq update
    mkdir -p "$(dirname "$place")"
    work=$(mktemp -d "$place.XXXXXX")
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf '$work'" EXIT
    mapfile -t packages < <(wanted)
    chmod 0755 "$work"
    mkdir "$work/debs"
    (cd "$work/debs" && apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}" >&2)
    for each in "$work"/debs/*.deb; do dpkg-deb -x "$each" "$work"; done
    rm -r "$work/debs"
    rm -rf "$place"
    mv -T "$work" "$place"
    trap - EXIT
}

# cloud-init, and of all that it depends on what is Python.
wanted() {
    echo cloud-init
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
        cloud-init | sed -n 's/^\(python3-[a-z0-9.+-]*\)$/\1/p' | grep -v -e '^python3-minimal$' -e '-dev$' | sort -u
}

main "$@"
