#!/usr/bin/env bash
# Install the NVIDIA driver if there is a GPU and no working driver. A working one is kept, whatever its source.
# needs: preflight tools
# deadline: 1800
# fix: see docs/gpu.md, "Bring your own driver"; this step succeeds as soon as `nvidia-smi -L` lists the GPUs
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/nvidia.sh
. "$BETA9_BOOTSTRAP/lib/nvidia.sh"
# shellcheck source=../lib/driver.sh
. "$BETA9_BOOTSTRAP/lib/driver.sh"

# shellcheck disable=SC2153 # set in lib/record.sh
REBOOTED=$BETA9_STATE/driver-rebooted # contains the boot id from before the single reboot that a driver may need

main() {
  local listing
  has_gpu || console "no NVIDIA device on the PCI bus: this becomes a CPU machine, suitable for CPU pools only"
  skip_without_gpu
  if ! listing=$(working_driver); then
    say "$(gpu_addresses | wc -l) NVIDIA device(s), no working driver: ${listing%%$'\n'*}"
    if [[ $listing == *'version mismatch'* ]]; then
      # Packages were upgraded while the module was loaded: nothing to install, only the new module to load.
      unload_driver || true
    elif [[ -e $REBOOTED ]]; then
      say "the driver was installed before the reboot"
    elif enabled BETA9_OWN_DRIVER; then
      fail "BETA9_OWN_DRIVER is set, but the driver does not work: ${listing%%$'\n'*}"
    else
      install_driver
    fi
    listing=$(working_driver) || reboot_once "$listing"
  fi
  say "driver $(loaded_driver) works: $(gpu_lines <<<"$listing") GPU(s)"
  rm -f "$REBOOTED"
  hold_driver
}

# working_driver: list the GPUs, loading the module first if needed: after a boot nothing may have loaded it yet.
working_driver() {
  if ! smi_list >/dev/null; then load_driver; fi
  smi_list
}

# reboot_once LISTING: request the single reboot, or fail if it has already happened.
reboot_once() {
  local boot
  boot=$(<"$BETA9_ROOT/proc/sys/kernel/random/boot_id")
  if [[ -e $REBOOTED && $(<"$REBOOTED") != "$boot" ]]; then
    fail "the driver still does not work after a reboot: ${1%%$'\n'*}" "$(driver_advice)"
  fi
  state_dir
  printf '%s\n' "$boot" >"$REBOOTED"
  reboot "the driver is installed, but its module can only be loaded after a reboot: ${1%%$'\n'*}"
}

main "$@"
