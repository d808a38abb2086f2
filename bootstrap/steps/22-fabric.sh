#!/usr/bin/env bash
# Install fabric manager in exactly the driver's version, on machines with NVSwitch. Without it nvidia-smi works, but no
# CUDA program starts.
# needs: driver
# deadline: 900
# fix: install the nvidia-fabricmanager package whose version equals the driver version that `nvidia-smi` shows
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/nvidia.sh
. "$BETA9_BOOTSTRAP/lib/nvidia.sh"

UNIT=nvidia-fabricmanager

main() {
  local driver
  skip_without_gpu
  has_nvswitch || skip "no NVSwitch"
  driver=$(loaded_driver)
  [[ -n $driver ]] || fail "this machine has an NVSwitch, but no NVIDIA module is loaded"
  [[ $(fabric_version) == "$driver" ]] || install_fabric_manager "$driver"
  if has_switch_management; then install_subnet_manager; fi
  mapfile -t packages < <(fabric_packages)
  ((${#packages[@]} == 0)) || apt_hold "${packages[@]}"
  run_service
  wait_for "$(setting BETA9_GPU_TIMEOUT 300)" "the NVSwitch fabric" fabric_ready ||
    fail "the fabric is not up: $(fabric_state)" \
      "see 'journalctl -u $UNIT' and /var/log/fabricmanager.log; on a virtual machine the fabric may be managed by the host"
  say "fabric manager $driver is running, fabric: $(fabric_state)"
}

# fabric_version: print the version of the installed fabric manager, or nothing.
fabric_version() {
  if command -v nv-fabricmanager >/dev/null; then
    nv-fabricmanager --version 2>&1 | awk -F': *' '/Fabric Manager version is/ { print $2 }' | tr -d '[:space:]' || true
  fi
}

fabric_packages() { installed_packages | grep -E '^(nvidia-fabricmanager|cuda-drivers-fabricmanager)(-[0-9]+)?$' || true; }

# install_fabric_manager DRIVER: Ubuntu's package name contains the branch, NVIDIA's (from 580 on) does not.
install_fabric_manager() {
  local driver=$1 current package version
  current=$(fabric_version)
  available "nvidia-fabricmanager-${driver%%.*}" nvidia-fabricmanager || true
  for package in "nvidia-fabricmanager-${driver%%.*}" nvidia-fabricmanager; do
    while read -r version; do
      [[ $(upstream_version "$version") == "$driver" ]] || continue
      say "fabric manager ${current:-is missing}, the driver is $driver: installing $package $version"
      pending fabric
      with_apt install_recorded --allow-downgrades --allow-change-held-packages "$package=$version"
      changed "installed $package $version"
      return 0
    done < <(candidates "$package")
  done
  fail "the driver is $driver and fabric manager ${current:-is missing}; no configured repository has fabric manager $driver$(unread_sources)" \
    "add the repository that the driver came from, or install driver and fabric manager in the same version (apt-cache madison nvidia-fabricmanager); see docs/gpu.md"
}

# From Blackwell on, the switches are managed over InfiniBand by a subnet manager, which is a separate package.
install_subnet_manager() {
  if ! is_installed nvlsm; then
    available nvlsm || fail "these NVSwitches need NVIDIA's subnet manager, and no configured repository has the package nvlsm$(unread_sources)" \
      "add NVIDIA's repository (docs/gpu.md, \"NVSwitch\")"
    pending fabric
    apt_install nvlsm
  fi
  modprobe ib_umad || fail "the kernel module ib_umad does not load" "install the extra kernel modules (linux-modules-extra-$(uname -r))"
  put_file "$BETA9_ROOT/etc/modules-load.d/beta9-nvswitch.conf" 0644 <<<"ib_umad"
}

run_service() {
  refuse_masked "$UNIT"
  if ! unit_is enabled "$UNIT"; then
    record unit "$UNIT"
    systemctl enable "$UNIT"
    changed "enabled $UNIT"
  fi
  if is_pending fabric; then
    systemctl restart "$UNIT" || fail "$UNIT does not start" "see 'journalctl -u $UNIT'"
    changed "restarted $UNIT"
    settled fabric
  elif ! unit_is active "$UNIT"; then
    systemctl start "$UNIT" || fail "$UNIT does not start" "see 'journalctl -u $UNIT'"
    changed "started $UNIT"
  fi
}

# fabric_state: print how many GPUs are in which state, from `nvidia-smi -q`. Before Hopper the field is absent or N/A.
fabric_state() {
  smi -q 2>/dev/null | awk '
    /^    Fabric$/ { inside = 1; next }
    /^    [^ ]/ { inside = 0 }
    inside && /^        State  *:/ { sub(/.*: */, ""); print }' | sort | uniq -c | awk '{ n = $1; $1 = ""; print n " x" $0 }' |
    paste -sd, | sed 's/,/, /g'
}

fabric_ready() { unit_is active "$UNIT" && ! fabric_state | grep -qiE 'progress|not started|fail'; }

main "$@"
