#!/usr/bin/env bash
# Start the agent, or hand over to a new one: the old agent leaves at once, and its workers keep running.
# needs: secrets units manifests agent-image gpus tailscale
# deadline: 300
# fix: see 'journalctl -u beta9-worker' and 'beta9-worker doctor'
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"

UNIT=beta9-worker.service
# shellcheck disable=SC2153 # set in lib/record.sh
ENV=$BETA9_STATE/agent.env

main() {
  put_dir "$BETA9_ROOT/etc/rancher" # mounted into the agent's container, even without k3s
  state_dir
  put_file "$ENV" 0600 agent <<EOT
AGENT_IMAGE=$(<"$BETA9_STATE/agent-image")
AGENT_OPTIONS=$(agent_options)
EOT
  note_changed_settings
  if is_pending agent && agent_running; then hand_over; fi
  if is_pending agent || ! unit_is active "$UNIT"; then
    systemctl restart "$UNIT"
    changed "started the agent"
  fi
  wait_for "$(scaled_timeout 120)" "the agent to answer" agent_healthy || fail "the agent does not stay up: $(last_log_lines)"
  settled agent
}

# agent_options: print options of `docker run` in addition to those in the unit.
agent_options() {
  local all=()
  if has_gpu && [[ $(setting BETA9_EXPECTED_GPUS) != 0 ]] && command -v nvidia-container-cli >/dev/null; then
    all+=(--gpus all)
  fi
  if [[ $(setting BETA9_CONNECTION) == tailscale ]]; then all+=(--volume /run/tailscale:/run/tailscale); fi
  printf %s "${all[*]:-}"
}

# The agent reads its settings only at startup: restart it if they changed.
note_changed_settings() {
  local checksum_file=$BETA9_STATE/agent-settings current=''
  if [[ -n $BETA9_ENV_FILE ]]; then current=$(sha256sum <"$BETA9_ENV_FILE"); fi
  [[ $(cat "$checksum_file" 2>/dev/null) != "$current" ]] || return 0
  pending agent
  printf '%s\n' "$current" >"$checksum_file"
}

agent_running() { [[ $(docker inspect --format '{{.State.Running}}' beta9-worker 2>/dev/null) == true ]]; }

# On SIGUSR1 the agent withdraws its offer, leaves its pods running and exits within 5 s, with code 0, so that systemd
# does not restart the old image.
hand_over() {
  say "the running agent hands over"
  docker kill --signal USR1 beta9-worker >/dev/null
  wait_for "$(scaled_timeout 20)" "the old agent to exit" agent_stopped || warn "the old agent did not exit; stopping it"
}

agent_stopped() { ! agent_running; }

agent_healthy() {
  [[ $(unit_state) != failed ]] || fail "the agent exited and will not be restarted: $(last_log_lines)"
  agent_running && docker exec beta9-worker beta9-worker health >/dev/null 2>&1
}

unit_state() { systemctl show --property ActiveState --value "$UNIT"; }

last_log_lines() { journalctl -u "$UNIT" -n 3 -o cat 2>/dev/null | paste -sd' ' | cut -c1-400; }

main "$@"
