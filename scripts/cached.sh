#!/usr/bin/env bash
# Takes what a command would make from a cache, where the same inputs have made it before; else runs the command.
#
#   scripts/cached.sh TARGET INPUT… -- COMMAND [ARGUMENT…]
#
# The key is a checksum of the command, of what each input file holds, of the Go settings in the environment and of
# $SALT, for what is no file. One entry is kept for each name, beside others' clones: BETA9_BUILD_CACHE names the folder
# ($XDG_CACHE_HOME/beta9-worker or ~/.cache/beta9-worker), `none` does without. TARGET may be a file or a folder.
set -Eeuo pipefail

main() {
    local target=${1:?the file or folder to make} inputs=() cache entry
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

# key COMMAND…: 16 hexadecimal digits.
key() {
    {
        printf '%s\n' "$(uname -m)" "${GO_TAGS:-}" "${CGO_ENABLED:-}" "${SALT:-}" "$@"
        ((${#inputs[@]} == 0)) || sha256sum "${inputs[@]}"
    } | sha256sum | cut -c1-16
}

# keep TARGET ENTRY: under its final name only once it is whole; entries of other inputs go.
keep() {
    local made=$2.$$
    mkdir -p "$(dirname "$2")"
    copy "$1" "$made"
    find "$(dirname "$2")" -maxdepth 1 -name "${1##*/}-*" ! -name "${made##*/}" -exec rm -rf {} +
    mv "$made" "$2"
}

# What was made is never written to again, so one copy on the disk is enough.
copy() {
    cp -al "$1" "$2" 2>/dev/null || {
        rm -rf "$2"
        cp -a --sparse=always "$1" "$2"
    }
}

main "$@"
