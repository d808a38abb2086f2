#!/usr/bin/env bash
# Waits, bounded, until k3s offers every GPU that is expected: a GPU that is missing while all else is well is what
# nobody notices.
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
  local listing seen expected limit
  wants_gpu
  listing=$(smi_list) || fail "the driver does not answer: ${listing%%$'\n'*}"
  seen=$(usable_gpus "$listing")
  expected=$(setting BETA9_EXPECTED_GPUS "$seen")
  [[ $expected =~ ^[0-9]+$ ]] || fail "BETA9_EXPECTED_GPUS is '$expected', not a number"
  limit=$(setting BETA9_GPU_TIMEOUT 300)
  unlisted
  ((seen >= expected)) || fail "$expected GPU(s) expected, the driver sees $seen; on the PCI bus: $(gpu_addresses | paste -sd' ')$(dark)" \
    "look for 'Xid' and 'fallen off the bus' in the kernel's log (dmesg); a cold restart of the machine often brings such a GPU back"
  wait_for "$limit" "$expected GPU(s) to be allocatable in k3s" enough "$expected" ||
    fail "$(allocatable) of $expected GPU(s) allocatable in k3s after $limit s: $(why)"
  say "$(allocatable) GPU(s) allocatable in k3s"
}

# unlisted: devices on the bus that the driver does not show are said even where fewer are expected.
unlisted() {
  local missing
  missing=$(dark)
  [[ -z $missing ]] || console "warning$missing"
}

# dark: which devices on the PCI bus the driver does not show, as text; nothing if it shows all.
dark() {
  local address shown missing=()
  shown=$(smi --query-gpu=pci.bus_id --format=csv,noheader 2>/dev/null | tr 'A-F' 'a-f' | sed 's/^0000\(....:\)/\1/') || return 0
  for address in $(gpu_addresses); do
    grep -qxF "$address" <<<"$shown" || missing+=("$address")
  done
  ((${#missing[@]} == 0)) || printf ': the driver does not show %s' "${missing[*]}"
}

enough() { (($(allocatable) >= $1)); }

# why: what the plugin itself says. First its pod's state, then the devices that it holds for unhealthy.
why() {
  local state log
  state=$(kubectl --request-timeout=10s -n kube-system get pods -l "$LABEL" -o \
    'jsonpath={range .items[*]}{.status.phase} {.status.containerStatuses[*].state.waiting.reason} {.status.containerStatuses[*].state.waiting.message}{end}' \
    2>/dev/null) || state="k3s does not answer"
  log=$(kubectl --request-timeout=10s -n kube-system logs -l "$LABEL" --tail=200 2>/dev/null | grep -iE 'unhealthy|error|fail' | tail -3 | paste -sd';') || true
  printf 'the device plugin is %s%s' "${state:-not there: its manifest was not applied}" "${log:+; it says: $log}"
}

main "$@"
