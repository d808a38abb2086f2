#!/bin/bash
# First boot of a Beta9 worker: fetches the bootstrap that worker.env names, checks it, becomes it.
# Harmless at every boot. BETA9_ROOT: what to take for / (tests).
set -Eeuo pipefail
umask 077

root=${BETA9_ROOT:-} etc=$root/etc/beta9-worker opt=$root/opt/beta9-worker state=$root/var/lib/beta9-worker
work='' given=$'\n'$(compgen -e)$'\n' what='an unforeseen error, see the lines above' fix="run $0 again"

say() { printf 'beta9-boot: %s\n' "$*"; }
fail() { what=$1 fix=$2; exit 1; }

ended() {
  local code=$? now
  [[ -z $work ]] || rm -rf "$work"
  ((code)) || return 0
  say "FAILED: $what; to mend it: $fix" >&2
  now=$(date -u +%FT%TZ) fix=$(tr -d '"\\\n\t' <<<"$what; $fix")
  mkdir -p "$state" && printf '{"version":1,"started_at":"%s","finished_at":"%s","result":"failed","failed_stage":"boot","fix":"%s","stages":[]}\n' \
    "$now" "$now" "$fix" >"$state/bootstrap.json"
  if [[ ${BETA9_ON_FAILURE:-} == poweroff ]] && ! systemctl -q is-active beta9-worker; then
    say 'powering off' >&2
    poweroff
  fi
}

# NAME=value or NAME='value', that over several lines. The environment wins; nothing is executed.
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
    [[ $given == *$'\n'$name$'\n'* ]] || printf -v "$name" %s "$value"
  done <"$1"
}

need() {
  command -v "$1" >/dev/null || { apt-get -q update && apt-get -qy install "$2"; } ||
    fail "$2 could not be installed" 'take an image that has it'
}

# LOCATION#sha256=HEX to a file; sets id, the tree's name.
fetch() {
  local where=${2%#sha256=*} sum=${2##*#sha256=} name
  sum=${sum,,} name=${where%%\?*}
  [[ $2 == *#sha256=* && $sum =~ ^[0-9a-f]{64}$ ]] || fail "$1 has no checksum" 'write LOCATION#sha256=HEX'
  id=${sum:0:12}
  [[ ! -e $opt/releases/$id ]] || return 0
  [[ ! -f ${BETA9_FILES_DIR:-/}/${name##*/} ]] || where=$BETA9_FILES_DIR/${name##*/}
  say "fetching ${where%%\?*}"
  case $where in
    https://* | http://*)
      need curl curl
      timeout 900 curl -fsSL --retry 8 --retry-connrefused --connect-timeout 10 -o "$work/file" "$where" ||
        fail "$1: $name could not be had" 'is the address right, and reachable from here?' ;;
    file:///* | /*) cp "${where#file://}" "$work/file" || fail "$1: $where cannot be read" 'put it there' ;;
    *) fail "$1 is no place to fetch from" 'give https://..., file:///... or an absolute path' ;;
  esac
  [[ $(sha256sum <"$work/file") == "$sum "* ]] ||
    fail "$1: $name has another checksum than the settings say" 'correct the one or the other'
}

# The tree out of the agent's image: its /opt/beta9-worker.
from_image() {
  local image=$BETA9_AGENT_IMAGE box
  if [[ $image =~ ^[^#]+@sha256:([0-9a-f]{64})$ ]]; then
    id=${BASH_REMATCH[1]:0:12}
  else
    fetch BETA9_AGENT_IMAGE "$image"
  fi
  [[ ! -e $opt/releases/$id ]] || return 0
  need docker docker.io
  if [[ -e $work/file ]]; then
    image=$(timeout 900 docker load -qi "$work/file") && image=${image##*: }
  else
    [[ -z ${BETA9_REGISTRY_AUTH_FILE:-} ]] || install -D "$BETA9_REGISTRY_AUTH_FILE" "$work/docker/config.json"
    DOCKER_CONFIG=$work/docker timeout 900 docker pull -q "$image" >/dev/null
  fi || fail "Docker cannot take $image" 'is BETA9_AGENT_IMAGE right, and may this machine have it?'
  box=$(docker create "$image") && docker cp "$box:/opt/beta9-worker/." "$work/tree" && docker rm "$box" >/dev/null
}

main() {
  trap ended EXIT
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
    fail 'nothing says where the bootstrap is' "name BETA9_SOURCE or BETA9_AGENT_IMAGE in $etc/worker.env"
  fi
  if [[ ! -e $opt/releases/$id ]]; then
    [[ -f $work/tree/bootstrap/install.sh ]] || fail 'what was fetched has no bootstrap/install.sh' 'name a release'
    mv -T "$work/tree" "$opt/releases/$id"
  fi
  ln -s "releases/$id" "$work/current"
  mv -T "$work/current" "$opt/current"
  rm -rf "$work"
  say "starting bootstrap $id"
  exec bash "$opt/current/bootstrap/install.sh" --env-file "$etc/worker.env"
}

main "$@"
