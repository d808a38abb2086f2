#!/usr/bin/env bash
# Makes dist/beta9-worker-VERSION.tar.gz of the last commit: what BETA9_SOURCE names. Prints the file and its sha256.
#
# One commit gives one file, byte for byte: names, times and modes come from git, and gzip adds neither name nor time.
set -Eeuo pipefail

main() {
    cd "$(dirname "$0")/.."
    local version name file
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' agent/__init__.py)
    name=beta9-worker-${version:?agent/__init__.py names no version}
    file=dist/$name.tar.gz
    if ! git rev-parse --quiet --verify HEAD >/dev/null; then
        echo "source.sh: not in a git checkout; the tarball is made of a commit" >&2
        exit 1
    fi
    [[ -z $(git status --porcelain) ]] ||
        echo "source.sh: what is not committed is not in it: $(git status --porcelain | wc -l) changed files" >&2
    mkdir -p dist
    # Into a file of another name first: whoever reads meanwhile has the old one or the new.
    git -c tar.umask=0022 archive --format=tar --prefix="$name/" HEAD | gzip -n -9 >"$file.new"
    mv "$file.new" "$file"
    printf '%s  %s\n' "$(sha256sum <"$file" | cut -c -64)" "$file"
}

main "$@"
