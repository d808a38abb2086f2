#!/usr/bin/env bash
# Close Kubernetes' ports to the outside, in a separate nftables table; other firewall rules are not touched. The rules
# are loaded before k3s starts, and at every boot before the network is up.
# needs: tools
# deadline: 60
# fix: run 'nft -f /etc/beta9-worker/firewall.nft' and read its output; the kernel must support nf_tables
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/k3s.sh
. "$BETA9_BOOTSTRAP/lib/k3s.sh"

UNIT=beta9-worker-firewall.service

# The agent's hairpin has a rule in INPUT while it runs. iptables creates that chain, and leaves it behind, empty.
# shellcheck disable=SC2016 # uninstall.sh runs it
FORGET_EMPTY_INPUT='nft list chain ip filter INPUT 2>/dev/null | { mapfile -t lines; ((${#lines[@]} != 5)) || nft delete chain ip filter INPUT; }'

main() {
  local rules=$BETA9_ROOT/etc/beta9-worker/firewall.nft
  nft list chain ip filter INPUT >/dev/null 2>&1 || record run "$FORGET_EMPTY_INPUT"
  put_dir "$(dirname "$rules")" 0700
  ruleset | put_file "$rules" 0644 firewall
  put_file "$BETA9_ROOT/etc/systemd/system/$UNIT" 0644 firewall <"$BETA9_BOOTSTRAP/systemd/$UNIT"
  if ! is_pending firewall && unit_is active "$UNIT"; then return 0; fi
  nft --check --file "$rules" || fail "nft rejects the rules in $rules" "check BETA9_K3S_ALLOW_FROM"
  enable_units "$UNIT"
  systemctl restart "$UNIT"
  changed "closed Kubernetes' ports to the outside"
  settled firewall
}

# Pods are known by the interface that their packets come in by, never by the sender's address: anyone on the machine's
# network can have, or forge, an address of the pods' range.
ruleset() {
  cat <<'EOT'
# Written by the Beta9 worker bootstrap. Filters only packets to this machine's own addresses.
table inet beta9_worker
delete table inet beta9_worker
table inet beta9_worker {
  chain admitted {
    iifname "lo" accept
    # The agent's way from ssh to this machine's ports; only what starts on this machine can enter it.
    iifname "b9-hairpin" accept
    ct state established,related accept
EOT
  pod_interfaces
  allowed_networks
  cat <<'EOT'
    iifname "tailscale0" tcp dport 6443 accept
  }
  # Before addresses are rewritten: a node port becomes the address of a pod.
  chain closed {
    type filter hook prerouting priority mangle; policy accept;
    fib daddr type != local accept
    jump admitted
    tcp dport { 6443, 10250, 30000-32767 } counter drop
    udp dport { 8472, 30000-32767 } counter drop
  }
  # And afterwards: the address of the service "kubernetes" becomes this machine's.
  chain closed_service {
    type filter hook input priority filter; policy accept;
    jump admitted
    tcp dport { 6443, 10250 } counter drop
  }
}
EOT
}

# An existing k3s may have another network plugin: Calico's interfaces are called cali*, Cilium's lxc* and cilium_*.
# lxcbr0 is the bridge of LXC's containers, which are no pods.
pod_interfaces() {
  local each names=('"cni0"' '"flannel.1"')
  ! k3s_foreign || names+=('"cali*"' '"lxc*" iifname != "lxcbr*"' '"cilium_*"')
  for each in "${names[@]}"; do printf '    iifname %s accept\n' "$each"; done
}

allowed_networks() {
  local each
  for each in $(setting BETA9_K3S_ALLOW_FROM | tr , ' '); do
    case $each in
      *:*) printf '    ip6 saddr %s tcp dport 6443 accept\n' "$each" ;;
      *) printf '    ip saddr %s tcp dport 6443 accept\n' "$each" ;;
    esac
  done
}

main "$@"
