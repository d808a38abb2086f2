#!/usr/bin/env bash
# Closes Kubernetes' ports to the outside, in an nftables table of its own; all else of the machine's firewall is left
# alone. Before k3s starts, and at every boot before the network is up.
# needs: tools
# deadline: 60
# fix: see 'nft -f /etc/beta9-worker/firewall.nft'; the kernel must have nf_tables
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"

UNIT=beta9-worker-firewall.service

main() {
  local rules=$BETA9_ROOT/etc/beta9-worker/firewall.nft
  put_dir "$(dirname "$rules")" 0700
  ruleset | put_file "$rules" 0644 firewall
  put_file "$BETA9_ROOT/etc/systemd/system/$UNIT" 0644 firewall <"$BETA9_BOOTSTRAP/systemd/$UNIT"
  if ! is_pending firewall && unit_is active "$UNIT"; then return 0; fi
  nft --check --file "$rules" || fail "nft does not take the rules in $rules" "check BETA9_K3S_ALLOW_FROM"
  enable_units "$UNIT"
  systemctl restart "$UNIT"
  changed "closed Kubernetes' ports to the outside"
  settled firewall
}

# In prerouting: a node port is rewritten to its pod's address before the input hook sees it.
ruleset() {
  cat <<'EOT'
# Written by the Beta9 worker bootstrap. Only what comes in for one of this machine's own addresses is looked at.
table inet beta9_worker
delete table inet beta9_worker
table inet beta9_worker {
  chain closed {
    type filter hook prerouting priority mangle; policy accept;
    iifname "lo" accept
    ct state established,related accept
    fib daddr type != local accept
    iifname { "cni0", "flannel.1" } accept
EOT
  allowed
  cat <<'EOT'
    iifname "tailscale0" tcp dport 6443 accept
    # pods, whatever interface they have; not for VXLAN, whose sender nobody checks
    ip saddr { 10.42.0.0/16, 10.43.0.0/16 } meta l4proto tcp accept
    tcp dport { 6443, 10250, 30000-32767 } counter drop
    udp dport { 8472, 30000-32767 } counter drop
  }
}
EOT
}

allowed() {
  local each
  for each in $(setting BETA9_K3S_ALLOW_FROM | tr , ' '); do
    case $each in
      *:*) printf '    ip6 saddr %s tcp dport 6443 accept\n' "$each" ;;
      *) printf '    ip saddr %s tcp dport 6443 accept\n' "$each" ;;
    esac
  done
}

main "$@"
