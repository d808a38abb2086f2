#!/usr/bin/env bash
# Gets k3s and its installation script, proven by checksum; steps/50-k3s.sh puts them to use.
# needs: tools storage
# deadline: 900
# fix: see that this machine reaches the address above, or put the files into BETA9_FILES_DIR (docs/bootstrap.md)
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/k3s.sh
. "$BETA9_BOOTSTRAP/lib/k3s.sh"

main() {
  ! k3s_foreign || skip "k3s is here and was not installed by this bootstrap"
  fetch_pinned BETA9_K3S_SHA256 "$(setting BETA9_K3S_URL)" "$(setting BETA9_K3S_SHA256)" "$K3S_FILES/k3s" \
    "$(setting BETA9_K3S_SUMS_URL)"
  fetch_pinned BETA9_K3S_INSTALL_SHA256 "$(setting BETA9_K3S_INSTALL_URL)" "$(setting BETA9_K3S_INSTALL_SHA256)" \
    "$K3S_FILES/install.sh"
  images
}

# Container images, for a machine that reaches no registry: only from BETA9_FILES_DIR.
images() {
  local from each name target=$BETA9_ROOT/var/lib/rancher/k3s/agent/images
  from=$(setting BETA9_FILES_DIR)
  [[ -n $from ]] || return 0
  name=$(setting BETA9_K3S_IMAGES_URL)
  for each in "$BETA9_ROOT$from/${name##*/}" "$BETA9_ROOT$from"/images/*.tar*; do
    [[ -n $name && -f $each ]] || continue
    # k3s' own by its pin; what lies in images/ is the administrator's choice.
    if [[ ${each##*/} == "${name##*/}" ]]; then proven "$each"; fi
    # Imported when k3s starts.
    cmp -s "$each" "$target/${each##*/}" || put_file "$target/${each##*/}" 0644 k3s <"$each"
  done
}

proven() {
  local sum
  sum=$(setting BETA9_K3S_IMAGES_SHA256)
  if [[ -z $sum ]]; then
    unpinned BETA9_K3S_IMAGES_SHA256 "$1"
  else
    sum_is "$1" "$sum" || fail "$1 has another checksum than BETA9_K3S_IMAGES_SHA256" "set it to the sum in the release's sha256sum-amd64.txt, or get the file anew"
  fi
}

main "$@"
