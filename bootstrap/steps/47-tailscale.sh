#!/usr/bin/env bash
# Install tailscaled from Tailscale's repository if BETA9_CONNECTION=tailscale; an existing one is kept. The agent logs
# it in, because an expired login must be renewed long after the installation (docs/tailscale.md).
# needs: tools firewall
# deadline: 900
# fix: see 'journalctl -u tailscaled', or install tailscale yourself and run the installer again
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/proxy.sh
. "$BETA9_BOOTSTRAP/lib/proxy.sh"

REPOSITORY=https://pkgs.tailscale.com/stable
DROP_IN=/etc/systemd/system/tailscaled.service.d/beta9-worker.conf

main() {
  [[ $(setting BETA9_CONNECTION) == tailscale ]] || skip "BETA9_CONNECTION is not tailscale"
  command -v tailscaled >/dev/null || add_tailscale
  systemctl cat tailscaled.service >/dev/null 2>&1 ||
    fail "there is a tailscaled, but no tailscaled.service (is it a snap?)" "remove this tailscale; the installer then installs Tailscale's package"
  refuse_masked tailscaled.service
  [[ -c $BETA9_ROOT/dev/net/tun ]] || modprobe tun || fail "/dev/net/tun does not exist" "install the kernel module tun"
  keep_runtime_directory
  unit_proxy tailscaled
  if is_pending tailscaled-proxy; then
    systemctl daemon-reload
    ! unit_is active tailscaled || systemctl restart tailscaled
    settled tailscaled-proxy
  fi
  unit_is enabled tailscaled || enable_tailscaled
  if ! unit_is active tailscaled; then
    systemctl start tailscaled || fail "tailscaled does not start"
    changed "started tailscaled"
  fi
  wait_for 30 "tailscaled to answer" tailscaled_answers || fail "tailscaled was started but does not answer"
  # Recorded last, so undone first: logging out removes this machine from the tailnet's list.
  ! recorded package tailscale || record run "tailscale logout 2>/dev/null || true"
  say "tailscale $(tailscale version | head -1); the agent logs it in"
}

add_tailscale() {
  local version repository
  version=$(setting BETA9_TAILSCALE_VERSION)
  repository=$(setting BETA9_TAILSCALE_REPOSITORY "$REPOSITORY/$(os_release ID)")
  [[ -n $version ]] || report_unpinned BETA9_TAILSCALE_VERSION "the newest tailscale in $repository"
  [[ -d $BETA9_ROOT/var/lib/tailscale ]] || record tree "$BETA9_ROOT/var/lib/tailscale"
  [[ -d $BETA9_ROOT/var/cache/tailscale ]] || record tree "$BETA9_ROOT/var/cache/tailscale"
  apt_repository tailscale "$(setting BETA9_TAILSCALE_KEY_URL "$REPOSITORY/$(os_release ID)/$(os_release VERSION_CODENAME).noarmor.gpg")" \
    "$(setting BETA9_TAILSCALE_KEY_FINGERPRINT)" "deb $repository $(os_release VERSION_CODENAME) main" \
    BETA9_TAILSCALE_KEY_FINGERPRINT
  apt_install "tailscale${version:+=$version}"
  [[ -z $version ]] || apt_hold tailscale
}

# Stopping tailscaled would delete /run/tailscale, and the agent's container would keep the deleted directory mounted.
keep_runtime_directory() {
  put_file "$BETA9_ROOT$DROP_IN" 0644 tailscaled <<'EOT'
# Written by the Beta9 worker bootstrap: the agent's container mounts /run/tailscale.
[Service]
RuntimeDirectoryPreserve=yes
EOT
  is_pending tailscaled || return 0
  systemctl daemon-reload
  settled tailscaled
}

enable_tailscaled() {
  record unit tailscaled.service
  systemctl enable tailscaled
  changed "enabled tailscaled.service"
}

tailscaled_answers() { tailscale status --json >/dev/null 2>&1; }

main "$@"
