#!/usr/bin/env bash
# Keep GPUs accessible in running containers: `systemctl daemon-reload` reapplies cgroup rules, which name devices by
# /dev/char/MAJOR:MINOR, but the driver creates no such links. Create them now, and by udev when the driver is loaded.
# A precaution: GPUs work without it, so no failure here ends the installation.
# needs: driver toolkit
# deadline: 120
# fix: run `nvidia-ctk system create-dev-char-symlinks --create-all` and read its output
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/nvidia.sh
. "$BETA9_BOOTSTRAP/lib/nvidia.sh"

RULE=/etc/udev/rules.d/71-beta9-nvidia-dev-char.rules

main() {
  local before ctk
  skip_without_gpu
  ctk=$(command -v nvidia-ctk)
  put_file "$BETA9_ROOT$RULE" 0644 udev <<EOT
# Written by beta9-worker: links from /dev/char to the NVIDIA devices, for cgroup rules (docs/gpu.md).
ACTION=="add", DEVPATH=="/bus/pci/drivers/nvidia", RUN+="$ctk system create-dev-char-symlinks --create-all"
EOT
  if is_pending udev; then
    if udevadm control --reload; then settled udev; else warn "udev did not read the new rule; it does at the next boot"; fi
  fi
  before=$(nvidia_links)
  # Links from before a driver upgrade may have another major number; nvidia-ctk reports but does not replace them.
  timeout --kill-after=10 60 "$ctk" system create-dev-char-symlinks --create-all ||
    console "warning: nvidia-ctk created no links in /dev/char: a 'systemctl daemon-reload' may take GPUs away from running containers (docs/gpu.md)"
  [[ $(nvidia_links) == "$before" ]] || changed "created $(comm -13 <(echo "$before") <(nvidia_links) | wc -l) links in /dev/char"
}

nvidia_links() {
  local link
  for link in "$BETA9_ROOT"/dev/char/*; do
    if [[ -L $link && $(readlink "$link") == */nvidia* ]]; then printf '%s %s\n' "$link" "$(readlink "$link")"; fi
  done | sort
}

main "$@"
