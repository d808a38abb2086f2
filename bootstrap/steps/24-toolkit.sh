#!/usr/bin/env bash
# NVIDIA container toolkit, before k3s starts: k3s looks for the runtime at its start only. One that is new enough is
# left alone; one with CVE-2025-23266 (up to 1.17.7) is replaced.
# needs: preflight tools
# deadline: 900
# fix: install nvidia-container-toolkit 1.17.8 or later (docs/gpu.md), then run the installer again
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/nvidia.sh
. "$BETA9_BOOTSTRAP/lib/nvidia.sh"

PLACE=nvidia.github.io/libnvidia-container # what other files of the machine may already name

main() {
  local have wanted
  wants_gpu
  have=$(toolkit_version)
  wanted=$(upstream "$(setting BETA9_TOOLKIT_VERSION)")
  if [[ -n $have ]] && newer_or_same "$have" "$BETA9_TOOLKIT_MINIMUM"; then
    say "container toolkit $have is there"
    return
  fi
  newer_or_same "${wanted:-0}" "$BETA9_TOOLKIT_MINIMUM" ||
    fail "BETA9_TOOLKIT_VERSION is '$wanted', older than $BETA9_TOOLKIT_MINIMUM (CVE-2025-23266)" "set a newer one, or none"
  [[ -z $have ]] || console "container toolkit $have has CVE-2025-23266: replacing it by $wanted"
  install_toolkit "$(setting BETA9_TOOLKIT_VERSION)"
  have=$(toolkit_version)
  newer_or_same "${have:-0}" "$BETA9_TOOLKIT_MINIMUM" ||
    fail "nvidia-ctk still answers as '$have' after the packages were installed" "remove the other nvidia-ctk: $(command -v nvidia-ctk)"
}

# toolkit_version: of the program on the path; empty without one.
toolkit_version() {
  if command -v nvidia-ctk >/dev/null; then
    nvidia-ctk --version 2>/dev/null | awk '/version/ { print $NF; exit }' | sed 's/^v//; s/[-~+].*//'
  fi
}

install_toolkit() {
  local version=$1 packages=() each
  yield_place
  apt_repository toolkit "$(setting BETA9_TOOLKIT_KEY_URL)" "$(setting BETA9_TOOLKIT_KEY_FINGERPRINT)" \
    "deb $(setting BETA9_TOOLKIT_REPOSITORY) /" BETA9_TOOLKIT_KEY_FINGERPRINT
  # One k3s that already runs has looked for the runtime, and not found this one.
  ! unit_is active k3s || pending k3s
  for each in nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools libnvidia-container1; do
    packages+=("$each=$version")
  done
  # Images hold their old version; an old one is what is to go.
  with_apt install_recorded --allow-change-held-packages --allow-downgrades "${packages[@]}"
  changed "installed container toolkit $version"
}

# yield_place: apt refuses one repository under two keys. What other files say about this one is switched off while we
# are here; uninstall.sh puts them back.
yield_place() {
  local file mode
  for file in "$BETA9_ROOT"/etc/apt/sources.list "$BETA9_ROOT"/etc/apt/sources.list.d/*.list "$BETA9_ROOT"/etc/apt/sources.list.d/*.sources; do
    if [[ ! -f $file || $file == */beta9-* ]] || ! grep -q "^[^#]*$PLACE" "$file"; then continue; fi
    mode=$(stat -c 0%a "$file")
    case $file in
      *.sources) sed 's/^Types:/Enabled: no\nTypes:/' "$file" ;; # deb822, as new Ubuntu has it
      *) sed "\\|^[^#]*$PLACE|s|^|# |" "$file" ;;
    esac | put_file "$file" "$mode"
  done
}

main "$@"
