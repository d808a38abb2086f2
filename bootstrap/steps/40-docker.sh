#!/usr/bin/env bash
# Docker Engine, for the agent's container; one that is there is used as it is.
# needs: tools storage
# deadline: 900
# fix: see 'journalctl -u docker'; or install Docker Engine yourself and run the installer again
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"

main() {
  if ! answers && ! has_docker; then
    # What Docker leaves behind when its package goes is ours to remove, too.
    [[ -d $BETA9_ROOT/var/lib/docker ]] || record tree "$BETA9_ROOT/var/lib/docker"
    record run "ip link delete docker0 2>/dev/null || true"
    [[ -d $BETA9_ROOT/var/lib/containerd ]] || record tree "$BETA9_ROOT/var/lib/containerd"
    apt_install docker.io
  fi
  systemctl cat docker.service >/dev/null 2>&1 ||
    fail "Docker answers, and there is no docker.service (a snap?)" "remove that Docker; the installer then takes the distribution's"
  unit_is enabled docker || enable_units docker.service
  unit_is active docker || systemctl start docker
  wait_for "$(patience 60)" "Docker to answer" answers || fail "Docker is started and does not answer"
  say "Docker $(docker version --format '{{.Server.Version}}')"
}

has_docker() { [[ -x $BETA9_ROOT/usr/bin/dockerd || -x $BETA9_ROOT/usr/sbin/dockerd ]]; }

answers() { docker version >/dev/null 2>&1; }

main "$@"
