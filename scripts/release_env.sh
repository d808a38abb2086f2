#!/usr/bin/env bash
# Writes cloud-init/release.env: the release that `beta9-worker user-data` and Terraform use by default.
#
#   scripts/release_env.sh IMAGE@sha256:… https://…/beta9-worker-1.2.3.tar.gz TARBALL
#
# TARBALL is a local copy of what the URL serves; its checksum is written, too.
set -Eeuo pipefail

main() {
    local image=${1:?the image, by digest} url=${2:?the URL of the source tarball} tarball=${3:?the tarball} sum
    [[ $image =~ ^[a-z0-9./_:-]+@sha256:[0-9a-f]{64}$ ]] || fail "$image is not of the form NAME@sha256:DIGEST"
    [[ $url == https://*/"${tarball##*/}" ]] || fail "$url is not the HTTPS URL of a file named ${tarball##*/}"
    sum=$(sha256sum <"$tarball")
    cd "${BETA9_CHECKOUT:-$(dirname "$0")/..}"
    {
        sed '/^BETA9_/d' cloud-init/release.env
        printf 'BETA9_AGENT_IMAGE=%s\nBETA9_SOURCE=%s#sha256=%s\n' "$image" "$url" "${sum%% *}"
    } >cloud-init/release.env.new
    mv cloud-init/release.env.new cloud-init/release.env
}

fail() {
    echo "release_env.sh: $1" >&2
    exit 1
}

main "$@"
