#!/usr/bin/env bash
# Builds the source tarball of a commit, for BETA9_SOURCE, and prints its SHA-256 and name.
#
#     scripts/source.sh                of the last commit: dist/beta9-worker-VERSION.tar.gz
#     scripts/source.sh COMMIT FILE    of another one, and to another place
#
# Reproducible: names, times and modes come from git, and gzip adds neither a name nor a time.
set -Eeuo pipefail

main() {
    cd "$(dirname "$0")/.."
    local commit=${1:-HEAD} version name file
    if ! git rev-parse --quiet --verify "$commit^{commit}" >/dev/null; then
        echo "source.sh: not in a git checkout with a commit to build from" >&2
        exit 1
    fi
    version=$(git show "$commit:agent/__init__.py" | sed -n 's/^__version__ = "\(.*\)"$/\1/p')
    name=beta9-worker-${version:?agent/__init__.py sets no __version__}
    file=${2:-dist/$name.tar.gz}
    [[ -z $(git status --porcelain) ]] ||
        echo "source.sh: not committed, hence not included: $(git status --porcelain | wc -l) changed files" >&2
    mkdir -p "$(dirname "$file")"
    # Write to a temporary name first, so that a concurrent reader gets either the old file or the new one; to a name of
    # its own, since another run may be under way.
    new=$(mktemp "$file.XXXXXX")
    trap 'rm -f -- "$new"' EXIT
    git -c tar.umask=0022 archive --format=tar --prefix="$name/" "$commit" | gzip -n -9 >"$new"
    chmod 0644 "$new"
    mv "$new" "$file"
    printf '%s  %s\n' "$(sha256sum <"$file" | cut -c -64)" "$file"
}

main "$@"
