#!/usr/bin/env bash
# Builds a base image like debian:bookworm-slim from Debian's packages, for hosts that cannot pull that one.
#
#   scripts/base_image.sh TAG
#
# Needs root and debootstrap; takes a minute or two. DEBIAN_MIRROR, DEBIAN_SECURITY_MIRROR and DOCKER override.
set -Eeuo pipefail

SUITE=bookworm
MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
SECURITY=${DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security}
DOCKER=${DOCKER:-docker}

main() {
    local tag=${1:?the tag of the new image}
    root=$(mktemp -d "${TMPDIR:-/var/tmp}/beta9-base.XXXXXX")
    trap 'rm -rf --one-file-system "$root"' EXIT
    bootstrap "$root" >"$root.log" 2>&1 || {
        tail -n 20 "$root.log" >&2
        echo "debootstrap failed; the full log is $root.log" >&2
        return 1
    }
    rm -f "$root.log"
    slim_down "$root"
    tar -C "$root" --sort=name --numeric-owner -c . |
        "$DOCKER" import --change 'CMD ["bash"]' --message "debootstrap $SUITE" - "$tag" >/dev/null
}

bootstrap() {
    local root=$1
    debootstrap --variant=minbase "$SUITE" "$root" "$MIRROR"
    printf 'deb %s %s main\n' "$MIRROR" "$SUITE" "$MIRROR" "$SUITE-updates" "$SECURITY" "$SUITE-security" \
        >"$root/etc/apt/sources.list"
}

# As in Debian's own slim images: no documentation except licences, and package installation starts no service.
slim_down() {
    local root=$1
    cat >"$root/etc/dpkg/dpkg.cfg.d/docker" <<'END'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/groff/*
path-exclude /usr/share/info/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/linda/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
END
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 0755 "$root/usr/sbin/policy-rc.d"
    find "$root/usr/share/doc" -depth -not -name copyright -type f -delete
    find "$root/usr/share/doc" -depth -type d -empty -delete
    rm -rf "$root"/usr/share/{groff,info,lintian,linda,locale,man}/* "$root"/var/cache/apt/* \
        "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root/etc/machine-id" "$root/etc/resolv.conf" "$root/etc/hostname"
}

main "$@"
