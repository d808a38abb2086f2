#!/usr/bin/env bash
# Get the agent's image: by digest from a registry, from an archive, or built from the source tree around this script.
# needs: docker-gpu
# deadline: 1800
# fix: make sure that this machine can reach the registry, or give an archive in BETA9_AGENT_IMAGE (docs/bootstrap.md)
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/images.sh
. "$BETA9_BOOTSTRAP/lib/images.sh"

# shellcheck disable=SC2153 # set in lib/record.sh
IMAGE_ID_FILE=$BETA9_STATE/agent-image # read by steps/80-agent.sh
SOURCE_TREE=$(dirname "$BETA9_BOOTSTRAP")

main() {
  local image id
  image=$(setting BETA9_AGENT_IMAGE)
  # `docker run … IMAGE install` writes the id of that image next to the tree it copies.
  [[ -n $image || ! -s $SOURCE_TREE/agent-image ]] || image=$(<"$SOURCE_TREE/agent-image")
  case $image in
    '') from_source ;;
    sha256:*) has_image "$image" || fail "Docker has no image $image" "set BETA9_AGENT_IMAGE, or run 'docker run … IMAGE install' again" ;;
    *'#sha256='* | /* | file://* | http://* | https://*) from_archive "$image" ;;
    *) from_registry "$image" ;;
  esac
  id=$(docker image inspect --format '{{.Id}}' "$image")
  [[ $(cat "$IMAGE_ID_FILE" 2>/dev/null) != "$id" ]] || skip "the image is up to date"
  printf '%s\n' "$id" >"$IMAGE_ID_FILE"
}

from_registry() {
  local auth attempt login
  if [[ $1 != *@sha256:* ]]; then report_unpinned BETA9_AGENT_IMAGE "the agent's image ($1 has no digest)"; elif has_image "$1"; then return 0; fi
  login=$(mktemp -d "${BETA9_RUN:-/tmp}/login.XXXXXX") # removed with the run, however it ends
  auth=$(setting BETA9_REGISTRY_AUTH_FILE)
  [[ -z $auth ]] || install -m 0600 "$BETA9_ROOT$auth" "$login/config.json"
  record_new_image "$1"
  for attempt in 1 2 3 4 5; do
    if docker --config "$login" pull --quiet "$1"; then
      rm -rf "$login"
      changed "pulled $1"
      return 0
    fi
    say "the pull failed (attempt $attempt of 5)"
    ((attempt == 5)) || pause $((attempt * 5))
  done
  rm -rf "$login"
  fail "cannot pull $1" "see the line above; a private registry needs BETA9_REGISTRY_AUTH_FILE"
}

# from_archive LOCATION: load an archive made by `docker save`, and tag its image by the archive's checksum.
from_archive() {
  local loaded sum
  sum=${1##*#sha256=} sum=${sum,,}
  image=beta9-worker:${sum:0:12}
  if [[ $1 == *'#sha256='* ]] && has_image "$image"; then return 0; fi
  [[ $1 == *'#sha256='* ]] || fail "BETA9_AGENT_IMAGE is $(shown "$1"), without a checksum" "append it: LOCATION#sha256=…"
  loaded=$(load_image "$1")
  record_new_image "$image"
  docker tag "$loaded" "$image"
  changed "loaded $loaded"
}

from_source() {
  local option arguments=() base
  [[ -f $SOURCE_TREE/Dockerfile ]] || fail "no source tree found around $BETA9_BOOTSTRAP to build the image from" \
    "set BETA9_AGENT_IMAGE to an image with its digest, or to an archive with its checksum"
  base=$(setting BETA9_BASE_IMAGE)
  image=beta9-worker:source-$(tree_checksum "$base")
  ! has_image "$image" || return 0
  # Nobody else builds with a Docker that has no images: all of its build cache will be this build's, and can be pruned.
  if [[ -z $(docker images --quiet) ]]; then
    record run "docker builder prune --all --force >/dev/null 2>&1 || true # it may be gone"
    pending builder-cache
  fi
  if [[ $base == *'#sha256='* ]]; then base=$(load_image "$base"); fi
  [[ -z $base ]] || arguments+=(--build-arg "BASE_IMAGE=$base")
  # By name only: addresses may contain a password, which an argument would show.
  for option in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST; do
    [[ -n $(setting "BETA9_$option") ]] || continue
    export "$option=$(setting "BETA9_$option")"
    arguments+=(--build-arg "$option")
  done
  for option in {http,https,no}_proxy {HTTP,HTTPS,NO}_PROXY; do
    [[ -z ${!option:-} ]] || arguments+=(--build-arg "$option")
  done
  record_new_image "$image"
  choose_builder
  # The host's network also reaches mirrors on loopback. `docker build` has no --userns, and a Docker with userns-remap
  # refuses that network without it.
  [[ $(docker info --format '{{.SecurityOptions}}' 2>/dev/null) == *name=userns* ]] || arguments+=(--network host)
  docker build --tag "$image" "${arguments[@]}" "$SOURCE_TREE" ||
    fail "building the image from $SOURCE_TREE failed" "see the lines above; set BETA9_BASE_IMAGE and BETA9_PIP_INDEX_URL to use mirrors"
  remove_build_leftovers
  changed "built $image"
}

# choose_builder: use BuildKit, which is faster, since it creates no container per line of the Dockerfile. Docker 23 and
# later use it by default if its plugin is installed; older versions include it but must be told to use it.
choose_builder() {
  local version
  version=$(docker version --format '{{.Client.Version}}')
  ((${version%%.*} >= 23)) || export DOCKER_BUILDKIT=1
  # BuildKit's client would create this directory only to store an id.
  [[ -d $HOME/.docker ]] || export DOCKER_CONFIG=${BETA9_RUN:-/tmp}/docker
}

# remove_build_leftovers: a build leaves about 250 MB besides its image: the classic builder its first stage, which is
# labelled; BuildKit a cache, which other builds may share (see from_source).
remove_build_leftovers() {
  docker image prune --force --filter label=beta9-worker.stage=build >/dev/null
  ! is_pending builder-cache || docker builder prune --all --force >/dev/null
  settled builder-cache
}

# tree_checksum BASE: print a checksum of everything the image is built from.
tree_checksum() {
  (
    set +o pipefail # some of these paths may be missing
    printf '%s\n' "$1"
    cd "$SOURCE_TREE"
    find Dockerfile agent bootstrap cloud-init image requirements pyproject.toml -type f ! -name '*.pyc' -print0 2>/dev/null |
      sort -z | xargs -0 sha256sum
  ) | sha256sum | cut -c1-12
}

main "$@"
