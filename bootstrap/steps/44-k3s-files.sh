#!/usr/bin/env bash
# Download k3s and its installation script and verify their checksums; steps/50-k3s.sh installs them.
# needs: tools storage
# deadline: 900
# fix: make sure this machine can reach the address above, or put the files into BETA9_FILES_DIR (docs/bootstrap.md)
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/k3s.sh
. "$BETA9_BOOTSTRAP/lib/k3s.sh"

main() {
  ! k3s_foreign || skip "using the existing k3s, which this bootstrap did not install"
  fetch_pinned BETA9_K3S_SHA256 "$(setting BETA9_K3S_URL)" "$(setting BETA9_K3S_SHA256)" "$K3S_FILES/k3s" \
    "$(setting BETA9_K3S_SUMS_URL)"
  fetch_pinned BETA9_K3S_INSTALL_SHA256 "$(setting BETA9_K3S_INSTALL_URL)" "$(setting BETA9_K3S_INSTALL_SHA256)" \
    "$K3S_FILES/install.sh"
  copy_images
}

# Container images for a machine without access to a registry; only from BETA9_FILES_DIR.
copy_images() {
  local files each name target=$BETA9_ROOT/var/lib/rancher/k3s/agent/images
  files=$(setting BETA9_FILES_DIR)
  [[ -n $files ]] || return 0
  name=$(shown "$(setting BETA9_K3S_IMAGES_URL)")
  for each in "$BETA9_ROOT$files/${name##*/}" "$BETA9_ROOT$files"/images/*.tar*; do
    [[ -n $name && -f $each ]] || continue
    # k3s' own images must match their pin; those in images/ are trusted, since the administrator put them there.
    if [[ ${each##*/} == "${name##*/}" ]]; then check_images_pin "$each"; fi
    # k3s imports them at startup.
    cmp -s "$each" "$target/${each##*/}" || put_file "$target/${each##*/}" 0644 k3s <"$each"
  done
}

check_images_pin() {
  local sum
  sum=$(setting BETA9_K3S_IMAGES_SHA256)
  if [[ -z $sum ]]; then
    report_unpinned BETA9_K3S_IMAGES_SHA256 "$1"
  else
    checksum_matches "$1" "$sum" || fail "the checksum of $1 differs from BETA9_K3S_IMAGES_SHA256" "set it to the checksum in the release's sha256sum-amd64.txt, or download the file again"
  fi
}

main "$@"
