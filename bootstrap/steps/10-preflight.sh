#!/usr/bin/env bash
# Check whether this machine can become a worker, and report all problems at once; changes nothing.
# needs:
# deadline: 60
# fix: see the list above; docs/bootstrap.md describes each check
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/scratch.sh
. "$BETA9_BOOTSTRAP/lib/scratch.sh"
# shellcheck source=../lib/k3s_checks.sh
. "$BETA9_BOOTSTRAP/lib/k3s_checks.sh"

PROBLEMS=()
FIREWALL='' # the one that would block pods

main() {
  local each
  for each in system settings space ports networks firewalls k3s; do "check_$each"; done
  ((${#PROBLEMS[@]})) || { say "this machine can become a worker"; return 0; }
  for each in "${PROBLEMS[@]}"; do console "$each"; done
  fail "${#PROBLEMS[@]} problems found; the first: ${PROBLEMS[0]}"
}

add_problem() { PROBLEMS+=("$*"); }

check_system() {
  local system
  system="$(os_release ID) $(os_release VERSION_ID)"
  case $system in
    'ubuntu 22.04' | 'ubuntu 24.04' | 'debian 12') ;;
    *) add_problem "unsupported system $system; the bootstrap supports Ubuntu 22.04, Ubuntu 24.04 and Debian 12" ;;
  esac
  [[ $(uname -m) == x86_64 ]] || add_problem "unsupported architecture $(uname -m); only x86_64 is supported"
  [[ -d $BETA9_ROOT/run/systemd/system ]] || add_problem "systemd is not running: run the bootstrap on a host, not in a container"
}

check_settings() {
  local name value
  [[ -n $(setting BETA9_POOL_NAME) ]] || add_problem "BETA9_POOL_NAME is not set: give the pool's name exactly as in the gateway's configuration"
  for name in BETA9_EXPECTED_GPUS BETA9_SECRETS_TIMEOUT BETA9_MIN_FREE_MIB; do
    number "$name" 0 >/dev/null || add_problem "$name is not a whole number"
  done
  value=$(number BETA9_SECRETS_TIMEOUT 0) && ((value > 3500)) && add_problem "BETA9_SECRETS_TIMEOUT is more than 3500 s"
  [[ $(setting BETA9_ON_FAILURE keep) =~ ^(keep|poweroff)$ ]] || add_problem "BETA9_ON_FAILURE must be keep or poweroff"
  for name in BETA9_FILES_DIR BETA9_REGISTRIES_FILE BETA9_REGISTRY_AUTH_FILE; do
    value=$(setting "$name")
    [[ -z $value || -r $BETA9_ROOT$value ]] || add_problem "$name is $value, which cannot be read"
  done
  for value in $(setting BETA9_K3S_ALLOW_FROM | tr , ' '); do
    [[ $value =~ ^[0-9a-fA-F.:]+(/[0-9]{1,3})?$ ]] || add_problem "BETA9_K3S_ALLOW_FROM: '$value' is not an address or a network"
  done
}

# Images, containers and Kubernetes need space on the disk that will hold them. Skipped on a machine that is already a
# worker: there they use that space.
check_space() {
  local wanted free
  wanted=$(number BETA9_MIN_FREE_MIB 20480) || return 0 # reported by check_settings
  # shellcheck disable=SC2153 # set in lib/record.sh
  if [[ -e $BETA9_STATE/ready ]]; then return 0; fi
  free=$(scratch_mib)
  ((free >= wanted)) || free=$(free_mib "$BETA9_ROOT/var/lib")
  ((free >= wanted)) || add_problem "$free MiB are free for images and containers, but $wanted MiB are required (BETA9_MIN_FREE_MIB): use a larger disk"
}

# API server, kubelet, controller manager, scheduler, containerd; flannel's VXLAN.
K3S_PORTS=(tcp:6443 tcp:6444 tcp:10250 tcp:10257 tcp:10259 tcp:10010 udp:8472)

check_ports() {
  local port holder
  command -v ss >/dev/null || return 0
  for port in "${K3S_PORTS[@]}"; do
    holder=$(listener "${port%:*}" "${port#*:}")
    if [[ -z $holder || $holder == *k3s* || $holder == containerd ]] || unit_is active k3s; then continue; fi
    [[ $port == udp:* && -e $BETA9_ROOT/sys/class/net/flannel.1 ]] || # left by a k3s that was stopped
      add_problem "port ${port#*:}, which k3s needs, is used by $holder"
  done
  local own=("$(setting BETA9_STATUS_ADDR 127.0.0.1:9464 | sed 's/.*://')")
  [[ -z $(setting BETA9_SSH_HOST) ]] || own+=("$(setting BETA9_GATEWAY_PORT 1994)")
  for port in "${own[@]}"; do
    holder=$(listener tcp "$port")
    [[ -z $holder ]] || unit_is active beta9-worker || add_problem "port $port, which the agent needs, is used by $holder"
  done
}

# listener tcp|udp PORT: print the program that listens there, if any.
listener() {
  ss -H -l -n -p --"$1" "sport = :$2" | sed -n '1{s/.*users:(("\([^"]*\)".*/\1/;s/^\(tcp\|udp\|LISTEN\|UNCONN\).*/another program/;p}'
}

# A firewall that drops packets from pods to this machine makes k3s hang silently. Others than these two are found by
# trying (check_packet_filter).
check_firewalls() {
  local status network zones=''
  if command -v ufw >/dev/null && status=$(ufw status 2>/dev/null) && [[ $status == 'Status: active'* ]]; then
    for network in "$PODS" "$SERVICES"; do
      ! grep -qE "ALLOW( IN)? +$network" <<<"$status" || continue
      FIREWALL=ufw
      add_problem "ufw is active and would block k3s: ufw allow from $network, or ufw disable (the bootstrap closes k3s's ports itself)"
    done
  fi
  if unit_is active firewalld; then
    for network in "$PODS" "$SERVICES"; do
      zones+="$(firewall-cmd --get-zone-of-source="$network" 2>/dev/null || true) "
    done
    [[ $zones != 'trusted trusted ' ]] || return 0
    FIREWALL=firewalld
    add_problem "firewalld is active and would block k3s: firewall-cmd --permanent --zone=trusted --add-source=$PODS --add-source=$SERVICES && firewall-cmd --reload, or systemctl disable --now firewalld (the bootstrap closes k3s's ports itself)"
  fi
}

main "$@"
