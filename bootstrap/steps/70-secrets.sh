#!/usr/bin/env bash
# Waits, where there is no secret store, until somebody has delivered the machine's token and its SSH key.
# needs: agent-image manifests gpus
# deadline: 3600
# fix: run 'beta9-worker push-secrets USER@HOST' from your machine, within BETA9_SECRETS_TIMEOUT seconds
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"

SECRETS=/etc/beta9-worker/secrets

main() {
  local limit files
  files=$(missing)
  [[ -n $files ]] || skip "the settings name every secret, or they are in $SECRETS"
  limit=$(number BETA9_SECRETS_TIMEOUT 900) || fail "BETA9_SECRETS_TIMEOUT is not a number of seconds"
  console "waiting up to $limit s for $(paste -sd' ' <<<"$files"): beta9-worker push-secrets USER@$(hostname -I 2>/dev/null | awk '{ print $1 }')"
  wait_for "$limit" "$(paste -sd' ' <<<"$files")" delivered || fail "nobody delivered $(missing | paste -sd' ')"
  console "the secrets are here"
}

delivered() { [[ -z $(missing) ]]; }

# missing: the files that are awaited, a line each. A value, or a reference to a store, needs none.
missing() {
  await BETA9_TOKEN token
  if [[ $(setting BETA9_CONNECTION) == ssh || ( -z $(setting BETA9_CONNECTION) && -n $(setting BETA9_SSH_HOST) ) ]]; then
    await BETA9_SSH_KEY ssh_key
  fi
  if [[ $(setting BETA9_CONNECTION) == tailscale ]] && ! in_tailnet; then await BETA9_TAILSCALE_AUTH tailscale_auth; fi
}

# in_tailnet: a machine that was logged in by hand needs no key.
in_tailnet() { tailscale status --json 2>/dev/null | grep -q '"BackendState": "Running"'; }

await() {
  local file
  [[ -z $(setting "$1") ]] || return 0
  file=$(setting "$1_FILE" "$SECRETS/$2")
  [[ -s $BETA9_ROOT$file ]] || printf '%s\n' "$file"
}

main "$@"
