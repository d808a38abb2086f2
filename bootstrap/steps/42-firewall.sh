#!/usr/bin/env bash
# Close Kubernetes' ports to the outside, in a separate nftables table; other firewall rules are not touched. The rules
# are loaded before k3s starts, and at every boot before the network is up.
# needs: tools
# deadline: 60
# fix: run 'nft -f /etc/beta9-worker/firewall.nft' and read its output; the kernel must support nf_tables
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
  nft --check --file "$rules" || fail "nft rejects the rules in $rules" "check BETA9_K3S_ALLOW_FROM"
  enable_units "$UNIT"
  systemctl restart "$UNIT"
  changed "closed Kubernetes' ports to the outside"
  settled firewall
}

# Filter in prerouting: node ports are rewritten to pod addresses before the input hook.
ruleset() {
  cat <<'EOT'
# Written by the Beta9 worker bootstrap. Filters only packets to this machine's own addresses.
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
  allowed_networks
  cat <<'EOT'
    iifname "tailscale0" tcp dport 6443 accept
    # pods, on any interface; TCP only, since the sender of a VXLAN packet is easily forged
    ip saddr { 10.42.0.0/16, 10.43.0.0/16 } meta l4proto tcp accept
    tcp dport { 6443, 10250, 30000-32767 } counter drop
    udp dport { 8472, 30000-32767 } counter drop
  }
}
EOT
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
