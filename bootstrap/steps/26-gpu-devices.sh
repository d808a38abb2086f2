#!/usr/bin/env bash
# Keeps GPUs in running containers: `systemctl daemon-reload` applies cgroup rules anew, which name devices by
# /dev/char/MAJOR:MINOR, and the driver makes no such links. Now, and by udev whenever the driver is loaded.
# needs: driver toolkit
# deadline: 120
# fix: run `nvidia-ctk system create-dev-char-symlinks --create-all` and see what it says
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/nvidia.sh
. "$BETA9_BOOTSTRAP/lib/nvidia.sh"

RULE=/etc/udev/rules.d/71-beta9-nvidia-dev-char.rules

main() {
  local before ctk
  wants_gpu
  ctk=$(command -v nvidia-ctk)
  put_file "$BETA9_ROOT$RULE" 0644 udev <<EOT
# By beta9-worker: links from /dev/char to the NVIDIA devices, for cgroup rules (docs/gpu.md).
ACTION=="add", DEVPATH=="/bus/pci/drivers/nvidia", RUN+="$ctk system create-dev-char-symlinks --create-all"
EOT
  if is_pending udev; then
    udevadm control --reload
    settled udev
  fi
  before=$(links)
  # Links of before a driver's upgrade may name another major number: it does not replace them, and says so.
  "$ctk" system create-dev-char-symlinks --create-all
  [[ $(links) == "$before" ]] || changed "made $(comm -13 <(echo "$before") <(links) | wc -l) links in /dev/char"
}

links() {
  local link
  for link in "$BETA9_ROOT"/dev/char/*; do
    if [[ -L $link && $(readlink "$link") == */nvidia* ]]; then printf '%s %s\n' "$link" "$(readlink "$link")"; fi
  done | sort
}

main "$@"
