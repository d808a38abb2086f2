#!/usr/bin/env bash
# Add Docker's runtime `nvidia`, for the agent's container (`--gpus all`). Other settings in daemon.json are kept.
# needs: docker toolkit
# deadline: 180
# fix: make sure that /etc/docker/daemon.json is valid JSON, then run `nvidia-ctk runtime configure --runtime=docker`
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/nvidia.sh
. "$BETA9_BOOTSTRAP/lib/nvidia.sh"

main() {
  local config=$BETA9_ROOT/etc/docker/daemon.json draft mode=0644
  skip_without_gpu
  draft=$(mktemp -d)
  if [[ -s $config ]]; then
    cp "$config" "$draft/daemon.json"
    mode=0$(stat -c %a "$config")
  fi
  # Work on a copy: a second run must neither write the file nor restart Docker.
  nvidia-ctk runtime configure --runtime=docker --config="$draft/daemon.json" ||
    fail "nvidia-ctk cannot add its runtime to $config"
  same_json "$config" "$draft/daemon.json" || put_file "$config" "$mode" docker <"$draft/daemon.json"
  rm -rf "$draft"
  if is_pending docker || started_before_its_files "$config"; then
    systemctl restart docker || fail "Docker does not start with the runtime nvidia" "see 'journalctl -u docker'; the runtime was added to $config"
    changed "restarted Docker"
    settled docker
  fi
}

# started_before_its_files CONFIG: whether Docker runs without having seen its configuration or the toolkit, because
# somebody added them later; it looks for them only when it starts.
started_before_its_files() {
  local started file
  started=$(systemctl show --property=ExecMainStartTimestamp --value docker.service 2>/dev/null) || return 1
  [[ -n $started ]] && started=$(date -d "$started" +%s 2>/dev/null) || return 1
  for file in "$1" "$(command -v nvidia-container-runtime-hook || true)"; do
    if [[ -e $file ]] && (($(stat -c %Z "$file") > started)); then
      say "$file is newer than the running Docker"
      return 0
    fi
  done
  return 1
}

# same_json A B: whether two files are equal except for white space and the order of keys.
same_json() { [[ -s $1 ]] && python3 -c 'import json, sys; a, b = (json.load(open(f)) for f in sys.argv[1:]); sys.exit(a != b)' "$1" "$2"; }

main "$@"
