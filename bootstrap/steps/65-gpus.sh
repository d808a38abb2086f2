#!/usr/bin/env bash
# Wait until k3s offers every expected GPU, for at most BETA9_GPU_TIMEOUT: otherwise a single missing GPU would go
# unnoticed.
# needs: device-plugin
# deadline: 900
# fix: see docs/gpu.md, "A GPU is missing"
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/nvidia.sh
. "$BETA9_BOOTSTRAP/lib/nvidia.sh"
# shellcheck source=../lib/k3s.sh
. "$BETA9_BOOTSTRAP/lib/k3s.sh"

LABEL=app.kubernetes.io/name=nvidia-device-plugin

main() {
  local listing visible expected limit
  skip_without_gpu
  listing=$(smi_list) || fail "the driver does not answer: ${listing%%$'\n'*}"
  visible=$(usable_gpus "$listing")
  expected=$(setting BETA9_EXPECTED_GPUS "$visible")
  [[ $expected =~ ^[0-9]+$ ]] || fail "BETA9_EXPECTED_GPUS is '$expected', not a number"
  limit=$(setting BETA9_GPU_TIMEOUT 300)
  warn_hidden_devices
  ((visible >= expected)) || fail "$expected GPU(s) expected, the driver sees $visible; on the PCI bus: $(gpu_addresses | paste -sd' ')$(hidden_devices)" \
    "look for 'Xid' and 'fallen off the bus' in the kernel log (dmesg); a cold restart of the machine often recovers such a GPU"
  wait_for "$limit" "$expected GPU(s) to be allocatable in k3s" enough_gpus "$expected" ||
    fail "$(allocatable_gpus) of $expected GPU(s) allocatable in k3s after $limit s: $(plugin_report)"
  say "$(allocatable_gpus) GPU(s) allocatable in k3s"
}

# warn_hidden_devices: warn about devices that the driver does not show, even if fewer GPUs are expected.
warn_hidden_devices() {
  local hidden
  hidden=$(hidden_devices)
  [[ -z $hidden ]] || console "warning$hidden"
}

# hidden_devices: print which devices on the PCI bus the driver does not show, or nothing.
hidden_devices() {
  local address shown missing=()
  shown=$(smi --query-gpu=pci.bus_id --format=csv,noheader 2>/dev/null | tr 'A-F' 'a-f' | sed 's/^0000\(....:\)/\1/') || return 0
  for address in $(gpu_addresses); do
    grep -qxF "$address" <<<"$shown" || missing+=("$address")
  done
  ((${#missing[@]} == 0)) || printf ': the driver does not show %s' "${missing[*]}"
}

enough_gpus() { (($(allocatable_gpus) >= $1)); }

# plugin_report: print the state of the plugin's pod, and errors and unhealthy devices from its log.
plugin_report() {
  local state log
  state=$(kubectl --request-timeout=10s -n kube-system get pods -l "$LABEL" -o \
    'jsonpath={range .items[*]}{.status.phase} {.status.containerStatuses[*].state.waiting.reason} {.status.containerStatuses[*].state.waiting.message}{end}' \
    2>/dev/null) || state="k3s does not answer"
  log=$(kubectl --request-timeout=10s -n kube-system logs -l "$LABEL" --tail=200 2>/dev/null | grep -iE 'unhealthy|error|fail' | tail -3 | paste -sd';') || true
  printf 'the device plugin is %s%s' "${state:-missing: its manifest was not applied}" "${log:+; its log: $log}"
}

main "$@"
