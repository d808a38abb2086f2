#!/usr/bin/env bash
# Starts the agent, or hands over to a new one: the old one leaves at once and its workers live on.
# needs: secrets units manifests agent-image gpus tailscale
# deadline: 300
# fix: see 'journalctl -u beta9-worker' and 'beta9-worker doctor'
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"

UNIT=beta9-worker.service
# shellcheck disable=SC2153 # lib/record.sh names it
ENV=$BETA9_STATE/agent.env

main() {
  put_dir "$BETA9_ROOT/etc/rancher" # a mount of the agent's, also where there is no k3s
  state_dir
  put_file "$ENV" 0600 agent <<EOT
AGENT_IMAGE=$(<"$BETA9_STATE/agent-image")
AGENT_OPTIONS=$(options)
EOT
  settings_changed
  if is_pending agent && running; then hand_over; fi
  if is_pending agent || ! unit_is active "$UNIT"; then
    systemctl restart "$UNIT"
    changed "started the agent"
  fi
  wait_for "$(patience 120)" "the agent to answer" alive || fail "the agent does not stay up: $(last_words)"
  settled agent
}

# What the agent's container gets beyond the unit's own.
options() {
  local all=()
  if has_gpu && [[ $(setting BETA9_EXPECTED_GPUS) != 0 ]] && command -v nvidia-container-cli >/dev/null; then
    all+=(--gpus all)
  fi
  if [[ $(setting BETA9_CONNECTION) == tailscale ]]; then all+=(--volume /run/tailscale:/run/tailscale); fi
  printf %s "${all[*]:-}"
}

# The agent reads its settings when it starts.
settings_changed() {
  local sum=$BETA9_STATE/agent-settings now=''
  if [[ -n $BETA9_ENV_FILE ]]; then now=$(sha256sum <"$BETA9_ENV_FILE"); fi
  [[ $(cat "$sum" 2>/dev/null) != "$now" ]] || return 0
  pending agent
  printf '%s\n' "$now" >"$sum"
}

running() { [[ $(docker inspect --format '{{.State.Running}}' beta9-worker 2>/dev/null) == true ]]; }

# SIGUSR1: it offers nothing more, leaves its pods alone and is gone within 5 s, with exit code 0, so that systemd does
# not start the old one again.
hand_over() {
  say "the agent that runs hands over"
  docker kill --signal USR1 beta9-worker >/dev/null
  wait_for "$(patience 20)" "the old agent's end" gone || warn "it does not leave; it is stopped"
}

gone() { ! running; }

alive() {
  [[ $(unit_state) != failed ]] || fail "the agent ended for good: $(last_words)"
  running && docker exec beta9-worker beta9-worker health >/dev/null 2>&1
}

unit_state() { systemctl show --property ActiveState --value "$UNIT"; }

last_words() { journalctl -u "$UNIT" -n 3 -o cat 2>/dev/null | paste -sd' ' | cut -c1-400; }

main "$@"
