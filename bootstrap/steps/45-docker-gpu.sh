#!/usr/bin/env bash
# Docker's runtime `nvidia`, for the agent's container (`--gpus all`). Whatever else is in daemon.json stays.
# needs: docker toolkit
# deadline: 180
# fix: see whether /etc/docker/daemon.json is JSON, then `nvidia-ctk runtime configure --runtime=docker`
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/nvidia.sh
. "$BETA9_BOOTSTRAP/lib/nvidia.sh"

main() {
  local config=$BETA9_ROOT/etc/docker/daemon.json draft mode=0644
  wants_gpu
  draft=$(mktemp -d)
  if [[ -s $config ]]; then
    cp "$config" "$draft/daemon.json"
    mode=0$(stat -c %a "$config")
  fi
  # On a copy: a second run must leave the file, and Docker, alone.
  nvidia-ctk runtime configure --runtime=docker --config="$draft/daemon.json" ||
    fail "nvidia-ctk cannot add its runtime to $config"
  same_json "$config" "$draft/daemon.json" || put_file "$config" "$mode" docker <"$draft/daemon.json"
  rm -rf "$draft"
  if is_pending docker; then
    systemctl restart docker || fail "Docker does not start with the runtime nvidia" "see 'journalctl -u docker'; what we wrote: $config"
    changed "restarted Docker"
    settled docker
  fi
}

# same_json A B: alike but for white space and the order of names.
same_json() { [[ -s $1 ]] && python3 -c 'import json, sys; a, b = (json.load(open(f)) for f in sys.argv[1:]); sys.exit(a != b)' "$1" "$2"; }

main "$@"
