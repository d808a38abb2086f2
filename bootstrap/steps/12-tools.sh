#!/usr/bin/env bash
# Install the programs that other steps call from the distribution's packages; existing ones are kept.
# needs: preflight
# deadline: 1200
# fix: make sure that apt can reach its mirrors (apt-get update), or install the packages named above yourself
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"

# program:package
TOOLS=(curl:curl gpg:gpg nft:nftables ip:iproute2 mkfs.ext4:e2fsprogs lsblk:util-linux python3:python3 iptables:iptables)

main() {
  local each missing=()
  for each in "${TOOLS[@]}"; do
    command -v "${each%%:*}" >/dev/null || missing+=("${each##*:}")
  done
  [[ -s $BETA9_ROOT/etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)
  ((${#missing[@]})) || skip "all tools are installed"
  apt_install "${missing[@]}"
}

main "$@"
