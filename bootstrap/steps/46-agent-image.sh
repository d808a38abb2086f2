#!/usr/bin/env bash
# The agent's image: by digest from a registry, from an archive, or built here from the tree that this script is in.
# needs: docker-gpu
# deadline: 1800
# fix: see that this machine reaches the registry, or name an archive in BETA9_AGENT_IMAGE (docs/bootstrap.md)
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/images.sh
. "$BETA9_BOOTSTRAP/lib/images.sh"

# shellcheck disable=SC2153 # lib/record.sh names it
ANSWER=$BETA9_STATE/agent-image # the image's id, for steps/80-agent.sh
SOURCE=$(dirname "$BETA9_BOOTSTRAP")

main() {
  local image id
  image=$(setting BETA9_AGENT_IMAGE)
  # Beside it lies the id of the image that it came out of, where `docker run … IMAGE install` put it.
  [[ -n $image || ! -s $SOURCE/agent-image ]] || image=$(<"$SOURCE/agent-image")
  case $image in
    '') from_source ;;
    sha256:*) here "$image" || fail "Docker has no image $image" "name one by digest, or run its install again" ;;
    *'#sha256='* | /* | file://* | http://* | https://*) from_archive "$image" ;;
    *) from_registry "$image" ;;
  esac
  id=$(docker image inspect --format '{{.Id}}' "$image")
  [[ $(cat "$ANSWER" 2>/dev/null) != "$id" ]] || skip "the image is here"
  printf '%s\n' "$id" >"$ANSWER"
}

from_registry() {
  local auth try login
  if [[ $1 != *@sha256:* ]]; then unpinned BETA9_AGENT_IMAGE "the agent's image ($1 has no digest)"; elif here "$1"; then return 0; fi
  login=$(mktemp -d "${BETA9_RUN:-/tmp}/login.XXXXXX") # goes with the run, however it ends
  auth=$(setting BETA9_REGISTRY_AUTH_FILE)
  [[ -z $auth ]] || install -m 0600 "$BETA9_ROOT$auth" "$login/config.json"
  ours "$1"
  for try in 1 2 3 4 5; do
    if docker --config "$login" pull --quiet "$1"; then
      rm -rf "$login"
      changed "pulled $1"
      return 0
    fi
    say "the pull failed, try $try of 5"
    ((try == 5)) || pause $((try * 5))
  done
  rm -rf "$login"
  fail "$1 cannot be pulled" "see the line above; a private registry needs BETA9_REGISTRY_AUTH_FILE"
}

# from_archive LOCATION: `docker save`'s. Its name for the image is taken; one without gets ours.
from_archive() {
  local loaded sum
  sum=${1##*#sha256=}
  image=beta9-worker:${sum:0:12}
  if [[ $1 == *'#sha256='* ]] && here "$image"; then return 0; fi
  [[ $1 == *'#sha256='* ]] || fail "BETA9_AGENT_IMAGE names $1 without a checksum" "write LOCATION#sha256=…"
  loaded=$(load "$1")
  ours "$image"
  docker tag "$loaded" "$image"
  changed "loaded $loaded"
}

from_source() {
  local option arguments=() base
  [[ -f $SOURCE/Dockerfile ]] || fail "there is no source tree around $BETA9_BOOTSTRAP to build the image from" \
    "set BETA9_AGENT_IMAGE to an image by digest, or to an archive with its checksum"
  base=$(setting BETA9_BASE_IMAGE)
  image=beta9-worker:source-$(tree_sum "$base")
  ! here "$image" || return 0
  # Nobody builds in a Docker without a single image: the cache will be this build's alone, however often it begins.
  if [[ -z $(docker images --quiet) ]]; then
    record run "docker builder prune --all --force >/dev/null 2>&1 || true # it may be gone"
    pending builder-cache
  fi
  if [[ $base == *'#sha256='* ]]; then base=$(load "$base"); fi
  [[ -z $base ]] || arguments+=(--build-arg "BASE_IMAGE=$base")
  for option in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST; do
    [[ -z $(setting "BETA9_$option") ]] || arguments+=(--build-arg "$option=$(setting "BETA9_$option")")
  done
  ours "$image"
  choose_builder
  docker build --network host --tag "$image" "${arguments[@]}" "$SOURCE" ||
    fail "the image cannot be built from $SOURCE" "see the lines above; BETA9_BASE_IMAGE and BETA9_PIP_INDEX_URL name mirrors"
  tidy
  changed "built $image"
}

# choose_builder: BuildKit, which makes no container and no layer for each line of the Dockerfile. Docker 23 and later use
# it by themselves where its plugin is installed, those before have it inside.
choose_builder() {
  local version
  version=$(docker version --format '{{.Client.Version}}')
  ((${version%%.*} >= 23)) || export DOCKER_BUILDKIT=1
  # BuildKit's client notes an id of its own in its directory, which otherwise nobody needs here.
  [[ -d $HOME/.docker ]] || export DOCKER_CONFIG=${BETA9_RUN:-/tmp}/docker
}

# tidy: what a build leaves beside its image, a quarter of a gigabyte: with the classic builder its first stage, which is
# labelled, with BuildKit a cache, which may be others', too.
tidy() {
  docker image prune --force --filter label=beta9-worker.stage=build >/dev/null
  ! is_pending builder-cache || docker builder prune --all --force >/dev/null
  settled builder-cache
}

# tree_sum BASE: of all that the image is made of.
tree_sum() {
  (
    set +o pipefail # a tree without one of these is fine
    printf '%s\n' "$1"
    cd "$SOURCE"
    find Dockerfile agent bootstrap cloud-init image requirements pyproject.toml -type f ! -name '*.pyc' -print0 2>/dev/null |
      sort -z | xargs -0 sha256sum
  ) | sha256sum | cut -c1-12
}

main "$@"
