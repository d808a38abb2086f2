# shellcheck shell=bash
# Shared by the NVIDIA steps: detect devices, query the driver, compare versions.

# shellcheck disable=SC2034 # read by the toolkit step
BETA9_TOOLKIT_MINIMUM=1.17.8 # up to 1.17.7: CVE-2025-23266, a container escape through a library path

# skip_without_gpu: skip the step if there is no NVIDIA device, or if BETA9_EXPECTED_GPUS=0 says not to use it.
skip_without_gpu() {
  has_gpu || skip "no NVIDIA device: this is a CPU machine"
  [[ $(setting BETA9_EXPECTED_GPUS) != 0 ]] || skip "BETA9_EXPECTED_GPUS is 0: GPUs are not used"
}

# pci_devices VENDOR CLASS: print the addresses of matching PCI devices; numbers as in sysfs, such as 0x10de 0x03.
pci_devices() {
  local device
  for device in "$BETA9_ROOT"/sys/bus/pci/devices/*; do
    [[ -r $device/vendor && -r $device/class ]] || continue
    if [[ $(<"$device/vendor") == "$1" && $(<"$device/class") == "$2"* ]]; then basename "$device"; fi
  done
}

gpu_addresses() { pci_devices 0x10de 0x03; }

pci_id() { printf '%d' "$(<"$BETA9_ROOT/sys/bus/pci/devices/$1/device")"; } # the device id, in decimal

# Generations before Turing need the proprietary kernel module; their device ids are below 0x1e00 (pci.ids).
before_turing() {
  local address
  for address in $(gpu_addresses); do
    if (($(pci_id "$address") < 0x1e00)); then return 0; fi
  done
  return 1
}

# has_nvswitch: an NVSwitch is a bridge on the PCI bus (V100 to H200), is listed by the driver, or, from Blackwell on,
# sits behind a ConnectX-7 function whose vital product data contains SW_MNG. nForce boards also have NVIDIA bridges;
# their device ids are below 0x1000.
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

# Eight GPUs without persistence mode answer slowly; a hanging driver must not block the step forever.
smi() { timeout --kill-after=10 120 nvidia-smi "$@"; }

# smi_list: print `nvidia-smi -L`; if no working driver sees a GPU, print the reason and fail.
smi_list() {
  local listing code=0
  command -v nvidia-smi >/dev/null || { echo "nvidia-smi is not installed"; return 1; }
  listing=$(smi -L 2>&1) || code=$?
  ((code != 124 && code != 137)) || listing="nvidia-smi did not answer within 120 s"
  printf '%s\n' "${listing:-nvidia-smi exited with code $code and no output}"
  ((code == 0)) && grep -q '^GPU [0-9]*:' <<<"$listing"
}

gpu_lines() { grep -c '^GPU [0-9]*:' || true; }
mig_lines() { grep -c '^  MIG ' || true; }

# usable_gpus LISTING: print how many devices the plugin will advertise: MIG devices if there are any, else GPUs.
usable_gpus() {
  local mig
  mig=$(mig_lines <<<"$1")
  if ((mig)); then printf %s "$mig"; else gpu_lines <<<"$1" | tr -d '\n'; fi
}

# loaded_driver: print the version of the loaded kernel module, such as 580.159.03, or nothing.
loaded_driver() {
  if [[ -r $BETA9_ROOT/sys/module/nvidia/version ]]; then tr -d '[:space:]' <"$BETA9_ROOT/sys/module/nvidia/version"; fi
}

# upstream_version VERSION: strip epoch and revision: 580.159.03-0ubuntu0.24.04.1 becomes 580.159.03.
upstream_version() {
  local version=${1#*:}
  printf %s "${version%%-*}"
}

# newer_or_same A B: whether version A is at least B.
newer_or_same() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -1) == "$2" ]]; }

node_name() { hostname | tr '[:upper:]' '[:lower:]'; } # the name that k3s gives the node

# allocatable_gpus: print how many GPUs k3s offers, or 0 if it does not answer. Requires lib/k3s.sh.
allocatable_gpus() {
  local count
  count=$(kubectl get node "$(node_name)" --request-timeout=10s -o 'jsonpath={.status.allocatable.nvidia\.com/gpu}' 2>/dev/null) || true
  printf %s "${count:-0}"
}
