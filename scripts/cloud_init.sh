#!/usr/bin/env bash
# Unpacks the distribution's cloud-init and its Python dependencies into a directory, for its schema check.
#
# It is deliberately not installed: an installed cloud-init would reconfigure the machine at its next boot.
set -Eeuo pipefail

main() {
    local target=${1:?the directory to create} packages=() work
    command -v apt-get >/dev/null || { echo "cloud_init.sh: apt-get not found; use Debian or Ubuntu" >&2; exit 1; }
    # Fetch package lists only if there are none; they need not be current.
    apt-cache show cloud-init >/dev/null 2>&1 || apt-get -qq update
    mkdir -p "$(dirname "$target")"
    work=$(mktemp -d "$target.XXXXXX")
    # shellcheck disable=SC2064 # expand now: a local variable
    trap "rm -rf '$work'" EXIT
    mapfile -t packages < <(wanted)
    chmod 0755 "$work"
    mkdir "$work/debs"
    (cd "$work/debs" && apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}" >&2)
    for each in "$work"/debs/*.deb; do dpkg-deb -x "$each" "$work"; done
    rm -r "$work/debs"
    rm -rf "$target"
    mv -T "$work" "$target"
    trap - EXIT
}

# cloud-init, and those of its dependencies that are Python packages.
wanted() {
    echo cloud-init
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
        cloud-init | sed -n 's/^\(python3-[a-z0-9.+-]*\)$/\1/p' | grep -v -e '^python3-minimal$' -e '-dev$' | sort -u
}

main "$@"
