#!/usr/bin/env bash
# Install Docker Engine for the agent's container, next to Docker's containerd.io its docker-ce; an existing one is used
# unchanged.
# needs: tools storage
# deadline: 900
# fix: see 'journalctl -u docker', or install Docker Engine yourself and run the installer again
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/proxy.sh
. "$BETA9_BOOTSTRAP/lib/proxy.sh"

main() {
  if ! docker_answers && ! has_docker; then
    # Purging the package leaves these behind; uninstall.sh removes them.
    [[ -d $BETA9_ROOT/var/lib/docker ]] || record tree "$BETA9_ROOT/var/lib/docker"
    record run "ip link delete docker0 2>/dev/null || true"
    [[ -d $BETA9_ROOT/var/lib/containerd ]] || record tree "$BETA9_ROOT/var/lib/containerd"
    unit_proxy docker # before its first start
    apt_install "$(docker_package)"
  fi
  systemctl cat docker.service >/dev/null 2>&1 ||
    fail "Docker answers, but there is no docker.service (is it a snap?)" "remove this Docker; the installer then installs the distribution's"
  use_site_proxy
  refuse_masked docker.service
  unit_is enabled docker || enable_units docker.service
  if ! unit_is active docker; then
    refuse_masked docker.socket containerd.service
    systemctl start docker || fail "Docker does not start"
  fi
  wait_for "$(scaled_timeout 60)" "Docker to answer" docker_answers || fail "Docker was started but does not answer"
  say "Docker $(docker version --format '{{.Server.Version}}')"
}

# use_site_proxy: Docker pulls images by itself. One that has a proxy already is left alone.
use_site_proxy() {
  local given
  given=$(docker info --format '{{.HTTPProxy}}{{.HTTPSProxy}}' 2>/dev/null || true)
  if [[ -z $given ]] || recorded file "$BETA9_ROOT/etc/systemd/system/docker.service.d/beta9-proxy.conf"; then unit_proxy docker; fi
  is_pending docker-proxy || return 0
  systemctl daemon-reload
  if unit_is active docker; then
    systemctl restart docker || fail "Docker does not start with the proxy of the settings"
    changed "restarted Docker"
  fi
  settled docker-proxy
}

# docker_package: the distribution's containerd and Docker's own exclude each other.
docker_package() {
  if is_installed containerd.io && available docker-ce >&2; then echo docker-ce; else echo docker.io; fi
}

has_docker() { [[ -x $BETA9_ROOT/usr/bin/dockerd || -x $BETA9_ROOT/usr/sbin/dockerd ]]; }

docker_answers() { docker version >/dev/null 2>&1; }

main "$@"
