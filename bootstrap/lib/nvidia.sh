# shellcheck shell=bash
# What the steps around NVIDIA share: which devices are there, what works, which versions fit together.

# shellcheck disable=SC2034 # read by the toolkit's step
BETA9_TOOLKIT_MINIMUM=1.17.8 # up to 1.17.7: CVE-2025-23266, out of the container with a library path

# wants_gpu: ends the step on a machine without an NVIDIA device, and where nobody wants its GPUs.
wants_gpu() {
  has_gpu || skip "no NVIDIA device: a CPU machine"
  [[ $(setting BETA9_EXPECTED_GPUS) != 0 ]] || skip "BETA9_EXPECTED_GPUS is 0: a CPU machine by request"
}

# pci_devices VENDOR CLASS: addresses of what is on the PCI bus, in sysfs' own numbers, as 0x10de 0x03.
pci_devices() {
  local device
  for device in "$BETA9_ROOT"/sys/bus/pci/devices/*; do
    [[ -r $device/vendor && -r $device/class ]] || continue
    if [[ $(<"$device/vendor") == "$1" && $(<"$device/class") == "$2"* ]]; then basename "$device"; fi
  done
}

gpu_addresses() { pci_devices 0x10de 0x03; }

pci_id() { printf '%d' "$(<"$BETA9_ROOT/sys/bus/pci/devices/$1/device")"; } # the device's number, decimal

# Only the generations before Turing need the proprietary kernel module; their numbers are below 0x1e00 (pci.ids).
before_turing() {
  local address
  for address in $(gpu_addresses); do
    if (($(pci_id "$address") < 0x1e00)); then return 0; fi
  done
  return 1
}

# has_nvswitch: as a bridge of its own on the PCI bus (V100 to H200), as the driver's word for it, or, from Blackwell
# on, behind a ConnectX-7 function whose vital product data says SW_MNG. nForce boards have NVIDIA bridges, too, with
# numbers below 0x1000.
has_nvswitch() {
  local address
  for address in $(pci_devices 0x10de 0x0680); do
    if (($(pci_id "$address") >= 0x1000)); then return 0; fi
  done
  [[ -z $(ls -A "$BETA9_ROOT/proc/driver/nvidia-nvswitch/devices" 2>/dev/null) ]] || return 0
  has_switch_management
}

has_switch_management() {
  local address
  for address in $(pci_devices 0x15b3 0x02); do
    if grep -qsa SW_MNG "$BETA9_ROOT/sys/bus/pci/devices/$address/vpd"; then return 0; fi
  done
  return 1
}

# Eight GPUs without persistence mode take their time; a driver that hangs must not hang us.
smi() { timeout --kill-after=10 120 nvidia-smi "$@"; }

# smi_list: `nvidia-smi -L`; fails, saying why, where there is no driver that works and sees a GPU.
smi_list() {
  local listing code=0
  command -v nvidia-smi >/dev/null || { echo "nvidia-smi is not installed"; return 1; }
  listing=$(smi -L 2>&1) || code=$?
  ((code != 124 && code != 137)) || listing="nvidia-smi did not answer within 120 s"
  printf '%s\n' "${listing:-nvidia-smi ended with $code and said nothing}"
  ((code == 0)) && grep -q '^GPU [0-9]*:' <<<"$listing"
}

gpu_lines() { grep -c '^GPU [0-9]*:' || true; }
mig_lines() { grep -c '^  MIG ' || true; }

# usable_gpus LISTING: what the device plugin will advertise: MIG devices where there are any, else GPUs.
usable_gpus() {
  local mig
  mig=$(mig_lines <<<"$1")
  if ((mig)); then printf %s "$mig"; else gpu_lines <<<"$1" | tr -d '\n'; fi
}

# loaded_driver: the version of the kernel module in use, as 580.159.03; empty without one.
loaded_driver() {
  if [[ -r $BETA9_ROOT/sys/module/nvidia/version ]]; then tr -d '[:space:]' <"$BETA9_ROOT/sys/module/nvidia/version"; fi
}

# upstream VERSION: a Debian version without epoch and revision: 580.159.03-0ubuntu0.24.04.1 is 580.159.03.
upstream() {
  local version=${1#*:}
  printf %s "${version%%-*}"
}

# newer_or_same A B
newer_or_same() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -1) == "$2" ]]; }

# fresh_lists: before asking what could be installed; an image's lists may be old, or none.
fresh_lists() { lists_fresh || with_apt refresh_lists; }

# candidates PACKAGE: every version that apt could install, newest first.
candidates() { apt-cache madison "$1" 2>/dev/null | awk -F'|' '{ gsub(/ /, "", $2); print $2 }'; }
installable() { [[ -n $(candidates "$1") ]]; }

# recording_packages COMMAND…: for programs that call apt themselves; what they bring is recorded.
recording_packages() {
  local before code=0 each
  before=$(installed_packages)
  "$@" </dev/null || code=$?
  while read -r each; do record package "$each"; done < <(comm -13 <(printf '%s\n' "$before") <(installed_packages))
  return "$code"
}

node_name() { hostname | tr '[:upper:]' '[:lower:]'; } # as k3s names the node

# allocatable: how many GPUs this machine's k3s offers; 0 where it says nothing. Wants lib/k3s.sh.
allocatable() {
  local count
  count=$(kubectl get node "$(node_name)" --request-timeout=10s -o 'jsonpath={.status.allocatable.nvidia\.com/gpu}' 2>/dev/null) || true
  printf %s "${count:-0}"
}
