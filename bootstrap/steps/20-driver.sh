#!/usr/bin/env bash
# NVIDIA driver. A working one is left alone, wherever it came from; with a GPU and none that works, one is installed.
# needs: preflight tools
# deadline: 1800
# fix: see docs/gpu.md, "Bring your own driver"; this step is content as soon as `nvidia-smi -L` names the GPUs
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/nvidia.sh
. "$BETA9_BOOTSTRAP/lib/nvidia.sh"
# shellcheck source=../lib/driver.sh
. "$BETA9_BOOTSTRAP/lib/driver.sh"

# shellcheck disable=SC2153 # BETA9_STATE is the library's
REBOOTED=$BETA9_STATE/driver-rebooted # holds the boot id before the one reboot that a missing driver may cost

main() {
  local listing
  has_gpu || console "no NVIDIA device on the PCI bus: this becomes a CPU machine, for CPU pools only"
  wants_gpu
  if ! listing=$(working_driver); then
    say "$(gpu_addresses | wc -l) NVIDIA device(s), and no working driver: ${listing%%$'\n'*}"
    if [[ $listing == *'version mismatch'* ]]; then
      # Packages were upgraded under a running module: nothing to install, only the newer module to load.
      unload_driver || true
    elif [[ -e $REBOOTED ]]; then
      say "installed before, and rebooted"
    elif enabled BETA9_OWN_DRIVER; then
      fail "BETA9_OWN_DRIVER is set, and the driver does not work: ${listing%%$'\n'*}"
    else
      install_driver
    fi
    listing=$(working_driver) || once "$listing"
  fi
  say "driver $(loaded_driver) works: $(gpu_lines <<<"$listing") GPU(s)"
  rm -f "$REBOOTED"
  hold_driver
}

# working_driver: the GPUs that it lists. After a boot nobody may have asked for the module yet.
working_driver() {
  if ! smi_list >/dev/null; then load_driver; fi
  smi_list
}

# once LISTING: the one reboot, or the end.
once() {
  local boot
  boot=$(<"$BETA9_ROOT/proc/sys/kernel/random/boot_id")
  if [[ -e $REBOOTED && $(<"$REBOOTED") != "$boot" ]]; then
    fail "the driver does not work after a reboot, either: ${1%%$'\n'*}" "$(driver_advice)"
  fi
  state_dir
  printf '%s\n' "$boot" >"$REBOOTED"
  reboot "the driver is installed and its module must be loaded by a fresh kernel: ${1%%$'\n'*}"
}

main "$@"
