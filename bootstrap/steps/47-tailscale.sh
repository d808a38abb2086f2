#!/usr/bin/env bash
# tailscaled from Tailscale's own repository, for BETA9_CONNECTION=tailscale; one that is there stays as it is. Logging
# in is the agent's part: a key that expires is needed again when nobody installs anything (docs/tailscale.md).
# needs: tools firewall
# deadline: 600
# fix: see 'journalctl -u tailscaled'; or install tailscale yourself and run the installer again
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"

PLACE=https://pkgs.tailscale.com/stable
DROP_IN=/etc/systemd/system/tailscaled.service.d/beta9-worker.conf

main() {
  [[ $(setting BETA9_CONNECTION) == tailscale ]] || skip "the connection is not by Tailscale"
  command -v tailscaled >/dev/null || add_tailscale
  [[ -c $BETA9_ROOT/dev/net/tun ]] || modprobe tun || fail "there is no /dev/net/tun" "give this machine the kernel module tun"
  keep_directory
  unit_is enabled tailscaled || enable
  if ! unit_is active tailscaled; then
    systemctl start tailscaled
    changed "started tailscaled"
  fi
  wait_for 30 "tailscaled to answer" answers || fail "tailscaled is started and does not answer"
  # Of ours, last on the record and so taken back first: the tailnet need not list a machine that is no worker any more.
  ! recorded package tailscale || record run "tailscale logout 2>/dev/null || true"
  say "tailscale $(tailscale version | head -1); the agent logs it in"
}

add_tailscale() {
  local version repository
  version=$(setting BETA9_TAILSCALE_VERSION)
  repository=$(setting BETA9_TAILSCALE_REPOSITORY "$PLACE/$(os_release ID)")
  [[ -n $version ]] || unpinned BETA9_TAILSCALE_VERSION "the newest tailscale of $repository"
  [[ -d $BETA9_ROOT/var/lib/tailscale ]] || record tree "$BETA9_ROOT/var/lib/tailscale"
  [[ -d $BETA9_ROOT/var/cache/tailscale ]] || record tree "$BETA9_ROOT/var/cache/tailscale"
  apt_repository tailscale "$(setting BETA9_TAILSCALE_KEY_URL "$PLACE/$(os_release ID)/$(os_release VERSION_CODENAME).noarmor.gpg")" \
    "$(setting BETA9_TAILSCALE_KEY_FINGERPRINT)" "deb $repository $(os_release VERSION_CODENAME) main" \
    BETA9_TAILSCALE_KEY_FINGERPRINT
  apt_install "tailscale${version:+=$version}"
  [[ -z $version ]] || apt_hold tailscale
}

# A stop takes /run/tailscale away, and the agent's container would keep looking at the directory that was there before.
keep_directory() {
  put_file "$BETA9_ROOT$DROP_IN" 0644 tailscaled <<'EOT'
# Written by the Beta9 worker bootstrap: the agent's container mounts /run/tailscale.
[Service]
RuntimeDirectoryPreserve=yes
EOT
  is_pending tailscaled || return 0
  systemctl daemon-reload
  settled tailscaled
}

enable() {
  record unit tailscaled.service
  systemctl enable tailscaled
  changed "enabled tailscaled.service"
}

answers() { tailscale status --json >/dev/null 2>&1; }

main "$@"
