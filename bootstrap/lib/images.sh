# shellcheck shell=bash
# Docker images: check for them, load them, and record them for uninstall.sh.

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# load_image LOCATION: load an archive; print the name of its image, or the id if it has none.
load_image() {
  local file=$BETA9_STATE/downloads/image before loaded
  fetch "$1" "$file"
  before=$(docker images --format '{{.Repository}}:{{.Tag}}')
  loaded=$(docker load --quiet --input "$file") || fail "$(shown "$1") is not an image archive"
  rm -f "$file"
  loaded=${loaded##*$'\n'} loaded=${loaded#Loaded image ID: } loaded=${loaded#Loaded image: }
  grep -qxF -- "$loaded" <<<"$before" || record_image_removal "$loaded"
  printf %s "$loaded"
}

# record_new_image IMAGE: let uninstall.sh remove it, unless it was there before. Call it before IMAGE is created.
record_new_image() { has_image "$1" || record_image_removal "$1"; }
record_image_removal() { record run "docker image rm '${1//\'/}' >/dev/null 2>&1 || true # it may be gone, or in use by another"; }
