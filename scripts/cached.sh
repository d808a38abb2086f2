#!/usr/bin/env bash
# Runs a command that builds a target, or copies the target from a cache if the same inputs have built it before.
#
#   scripts/cached.sh TARGET INPUT… -- COMMAND [ARGUMENT…]
#
# The key is a checksum of the command, the contents of the input files, the Go settings in the environment, and $SALT
# (for inputs that are not files). One entry is kept per target name. BETA9_BUILD_CACHE sets the cache's directory
# ($XDG_CACHE_HOME/beta9-worker or ~/.cache/beta9-worker); `none` disables it. TARGET may be a file or a directory.
set -Eeuo pipefail

main() {
    local target=${1:?the file or directory to build} inputs=() cache entry
    shift
    while [[ $1 != -- ]]; do inputs+=("$1") && shift; done
    shift
    cache=${BETA9_BUILD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/beta9-worker}
    if [[ $cache == none ]]; then
        exec "$@"
    fi
    entry=$cache/${target##*/}-$(key "$@")
    if [[ -e $entry ]]; then
        rm -rf "$target"
        mkdir -p "$(dirname "$target")"
        copy "$entry" "$target"
    else
        "$@"
        keep "$target" "$entry"
    fi
    touch "$target"
}

# key COMMAND…: print 16 hexadecimal digits.
key() {
    {
        printf '%s\n' "$(uname -m)" "${GO_TAGS:-}" "${CGO_ENABLED:-}" "${SALT:-}" "$@"
        ((${#inputs[@]} == 0)) || sha256sum "${inputs[@]}"
    } | sha256sum | cut -c1-16
}

# keep TARGET ENTRY: store the target, under its final name only once complete; remove entries of other inputs.
keep() {
    local partial=$2.$$
    mkdir -p "$(dirname "$2")"
    copy "$1" "$partial"
    find "$(dirname "$2")" -maxdepth 1 -name "${1##*/}-*" ! -name "${partial##*/}" -exec rm -rf {} +
    mv "$partial" "$2"
}

# Hard links suffice if possible, because a built target is never modified.
copy() {
    cp -al "$1" "$2" 2>/dev/null || {
        rm -rf "$2"
        cp -a --sparse=always "$1" "$2"
    }
}

main "$@"
