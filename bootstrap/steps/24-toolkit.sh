#!/usr/bin/env bash
# Install the NVIDIA container toolkit before k3s starts, since k3s detects the runtime only at startup. A recent one is
# kept; one with CVE-2025-23266 (up to 1.17.7) is replaced.
# needs: preflight tools
# deadline: 900
# fix: install nvidia-container-toolkit 1.17.8 or later (docs/gpu.md), then run the installer again
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/nvidia.sh
. "$BETA9_BOOTSTRAP/lib/nvidia.sh"

main() {
  local current wanted
  skip_without_gpu
  current=$(toolkit_version)
  wanted=$(upstream_version "$(setting BETA9_TOOLKIT_VERSION)")
  if [[ -n $current ]] && newer_or_same "$current" "$BETA9_TOOLKIT_MINIMUM"; then
    say "container toolkit $current is installed"
    return
  fi
  newer_or_same "${wanted:-0}" "$BETA9_TOOLKIT_MINIMUM" ||
    fail "BETA9_TOOLKIT_VERSION is '$wanted', older than $BETA9_TOOLKIT_MINIMUM (CVE-2025-23266)" "set a newer version, or unset it"
  [[ -z $current ]] || console "container toolkit $current has CVE-2025-23266: replacing it with $wanted"
  install_toolkit "$(setting BETA9_TOOLKIT_VERSION)"
  current=$(toolkit_version)
  newer_or_same "${current:-0}" "$BETA9_TOOLKIT_MINIMUM" ||
    fail "nvidia-ctk still has version '$current' after the packages were installed" "remove the other nvidia-ctk: $(command -v nvidia-ctk)"
}

# toolkit_version: print the version of nvidia-ctk on the PATH, or nothing.
toolkit_version() {
  if command -v nvidia-ctk >/dev/null; then
    nvidia-ctk --version 2>/dev/null | awk '/version/ { print $NF; exit }' | sed 's/^v//; s/[-~+].*//'
  fi
}

install_toolkit() {
  local version=$1 packages=() each
  # Where a mirror takes its place, NVIDIA's own is not needed, and may not be reachable.
  with_apt switch_off "${BETA9_PINS[BETA9_TOOLKIT_REPOSITORY]}" / "$BETA9_ROOT/etc/apt/sources.list.d/beta9-toolkit.list"
  apt_repository toolkit "$(setting BETA9_TOOLKIT_KEY_URL)" "$(setting BETA9_TOOLKIT_KEY_FINGERPRINT)" \
    "deb $(setting BETA9_TOOLKIT_REPOSITORY) /" BETA9_TOOLKIT_KEY_FINGERPRINT
  # k3s and Docker look for the runtime only when they start: restart them later. Docker may be starting right now.
  ! unit_is active k3s || pending k3s
  [[ -n $(toolkit_version) ]] || pending docker
  for each in nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools libnvidia-container1; do
    packages+=("$each=$version")
  done
  # Machine images may hold the vulnerable version; replace it regardless.
  with_apt install_recorded --allow-change-held-packages --allow-downgrades "${packages[@]}"
  changed "installed container toolkit $version"
}

main "$@"
