# shellcheck shell=bash
# Docker's images: whether one is here, and how one comes so that uninstall.sh can take it away again.

here() { docker image inspect "$1" >/dev/null 2>&1; }

# load LOCATION: prints the name, or the id, that the archive has for its image.
load() {
  local file=$BETA9_STATE/downloads/image before loaded
  fetch "$1" "$file"
  before=$(docker images --format '{{.Repository}}:{{.Tag}}')
  loaded=$(docker load --quiet --input "$file") || fail "$1 is not an image archive"
  rm -f "$file"
  loaded=${loaded##*$'\n'} loaded=${loaded#Loaded image ID: } loaded=${loaded#Loaded image: }
  grep -qxF -- "$loaded" <<<"$before" || record_image "$loaded"
  printf %s "$loaded"
}

# ours IMAGE: removed by uninstall.sh, unless it was here before.
ours() { here "$1" || record_image "$1"; }
record_image() { record run "docker image rm '${1//\'/}' >/dev/null 2>&1 || true # it may be gone, or in use by another"; }
