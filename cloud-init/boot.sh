#!/bin/bash
# First boot of a Beta9 worker: downloads the bootstrap that worker.env names, verifies it, and runs it.
# Safe to run at every boot. BETA9_ROOT: used as / (for tests).
set -Eeuo pipefail
umask 077

root=${BETA9_ROOT:-} etc=$root/etc/beta9-worker opt=$root/opt/beta9-worker state=$root/var/lib/beta9-worker
work='' environ=$'\n'$(compgen -e)$'\n' reason='unexpected error, see the lines above' fix="run $0 again"

say() { printf 'beta9-boot: %s\n' "$*"; }
fail() { reason=$1 fix=$2; exit 1; }

on_exit() {
  local code=$? now
  [[ -z $work ]] || rm -rf "$work"
  ((code)) || return 0
  say "FAILED: $reason; fix: $fix" >&2
  now=$(date -u +%FT%TZ) fix=$(tr -d '"\\\n\t' <<<"$reason; $fix")
  mkdir -p "$state" && printf '{"version":1,"started_at":"%s","finished_at":"%s","result":"failed","failed_stage":"boot","fix":"%s","stages":[]}\n' \
    "$now" "$now" "$fix" >"$state/bootstrap.json"
  if [[ ${BETA9_ON_FAILURE:-} == poweroff ]] && ! systemctl -q is-active beta9-worker; then
    say 'powering off' >&2
    poweroff
  fi
}

# NAME=value or NAME='value' (may span lines). The environment wins; nothing is evaluated.
read_settings() {
  local line name value
  while IFS= read -r line || [[ -n $line ]]; do
    [[ $line =~ ^(BETA9_[A-Z0-9_]+)=(.*)$ ]] || continue
    name=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
    if [[ $value == \'* ]]; then
      value=${value:1}
      while [[ $value != *\'* ]] && IFS= read -r line; do value+=$'\n'$line; done
      value=${value%%\'*}
    else
      value=${value%%[[:space:]]*}
    fi
    [[ $environ == *$'\n'$name$'\n'* ]] || printf -v "$name" %s "$value"
  done <"$1"
}

ensure() {
  command -v "$1" >/dev/null || { apt-get -q update && apt-get -qy install "$2"; } ||
    fail "$2 could not be installed" 'use an image that has it'
}

# fetch VARIABLE LOCATION#sha256=HEX: to $work/file; sets id, the release's name.
fetch() {
  local url=${2%#sha256=*} sum=${2##*#sha256=} name
  sum=${sum,,} name=${url%%\?*}
  [[ $2 == *#sha256=* && $sum =~ ^[0-9a-f]{64}$ ]] || fail "$1 has no checksum" 'use LOCATION#sha256=HEX'
  id=${sum:0:12}
  [[ ! -e $opt/releases/$id ]] || return 0
  [[ ! -f ${BETA9_FILES_DIR:-/}/${name##*/} ]] || url=$BETA9_FILES_DIR/${name##*/}
  say "fetching ${url%%\?*}"
  case $url in
    https://* | http://*)
      ensure curl curl
      timeout 900 curl -fsSL --retry 8 --retry-connrefused --connect-timeout 10 -o "$work/file" "$url" ||
        fail "$1: cannot download $name" 'check the URL, and that this machine can reach it' ;;
    file:///* | /*) cp "${url#file://}" "$work/file" || fail "$1: cannot read $url" 'put the file there' ;;
    *) fail "$1 is not a valid location" 'use https://..., file:///... or an absolute path' ;;
  esac
  [[ $(sha256sum <"$work/file") == "$sum "* ]] ||
    fail "$1: wrong checksum of $name" 'correct the file or the setting'
}

# Copy /opt/beta9-worker out of the agent's image.
from_image() {
  local image=$BETA9_AGENT_IMAGE container
  if [[ $image =~ ^[^#]+@sha256:([0-9a-f]{64})$ ]]; then
    id=${BASH_REMATCH[1]:0:12}
  else
    fetch BETA9_AGENT_IMAGE "$image"
  fi
  [[ ! -e $opt/releases/$id ]] || return 0
  ensure docker docker.io
  if [[ -e $work/file ]]; then
    image=$(timeout 900 docker load -qi "$work/file") && image=${image##*: }
  else
    [[ -z ${BETA9_REGISTRY_AUTH_FILE:-} ]] || install -D "$BETA9_REGISTRY_AUTH_FILE" "$work/docker/config.json"
    DOCKER_CONFIG=$work/docker timeout 900 docker pull -q "$image" >/dev/null
  fi || fail "Docker cannot get $image" 'check BETA9_AGENT_IMAGE and BETA9_REGISTRY_AUTH_FILE'
  container=$(docker create "$image") && docker cp "$container:/opt/beta9-worker/." "$work/tree" && docker rm "$container" >/dev/null
}

main() {
  trap on_exit EXIT
  export PATH=$PATH:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive
  [[ ! -e $etc/worker.env ]] || { chmod 0700 "$etc"; read_settings "$etc/worker.env"; }
  mkdir -p "$opt/releases"
  work=$(mktemp -d "$opt/.boot.XXXXXX")
  mkdir "$work/tree"
  if [[ -n ${BETA9_SOURCE:-} ]]; then
    fetch BETA9_SOURCE "$BETA9_SOURCE"
    [[ ! -e $work/file ]] || tar -xzf "$work/file" -C "$work/tree" --strip-components=1 --no-same-owner
  elif [[ -n ${BETA9_AGENT_IMAGE:-} ]]; then
    from_image
  else
    fail 'no bootstrap to run' "set BETA9_SOURCE or BETA9_AGENT_IMAGE in $etc/worker.env"
  fi
  if [[ ! -e $opt/releases/$id ]]; then
    [[ -f $work/tree/bootstrap/install.sh ]] || fail 'the download has no bootstrap/install.sh' 'use a release'
    mv -T "$work/tree" "$opt/releases/$id"
  fi
  ln -s "releases/$id" "$work/current"
  mv -T "$work/current" "$opt/current"
  rm -rf "$work"
  say "starting bootstrap $id"
  exec bash "$opt/current/bootstrap/install.sh" --env-file "$etc/worker.env"
}

main "$@"
