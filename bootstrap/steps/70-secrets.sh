#!/usr/bin/env bash
# Wait until the machine's token and SSH key are delivered, if the settings do not provide them.
# needs: agent-image manifests gpus
# deadline: 3600
# fix: run 'beta9-worker push-secrets USER@HOST' on your machine, within BETA9_SECRETS_TIMEOUT seconds
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"

SECRETS=/etc/beta9-worker/secrets

main() {
  local limit files
  files=$(missing_secrets)
  [[ -n $files ]] || skip "every secret is in the settings or in $SECRETS"
  limit=$(number BETA9_SECRETS_TIMEOUT 900) || fail "BETA9_SECRETS_TIMEOUT is not a number of seconds"
  console "waiting up to $limit s for $(paste -sd' ' <<<"$files"): beta9-worker push-secrets USER@$(hostname -I 2>/dev/null | awk '{ print $1 }')"
  wait_for "$limit" "$(paste -sd' ' <<<"$files")" secrets_delivered || fail "these secrets were not delivered in time: $(missing_secrets | paste -sd' ')"
  console "the secrets have arrived"
}

secrets_delivered() { [[ -z $(missing_secrets) ]]; }

# missing_secrets: print the files that are still missing, one per line. Secrets given by value or reference need none.
missing_secrets() {
  list_if_missing BETA9_TOKEN token
  if [[ $(setting BETA9_CONNECTION) == ssh || ( -z $(setting BETA9_CONNECTION) && -n $(setting BETA9_SSH_HOST) ) ]]; then
    list_if_missing BETA9_SSH_KEY ssh_key
  fi
  if [[ $(setting BETA9_CONNECTION) == tailscale ]] && ! in_tailnet; then list_if_missing BETA9_TAILSCALE_AUTH tailscale_auth; fi
}

# in_tailnet: a machine that is already logged in needs no key.
in_tailnet() { tailscale status --json 2>/dev/null | grep -q '"BackendState": "Running"'; }

list_if_missing() { # list_if_missing VARIABLE FILE
  local file
  [[ -z $(setting "$1") ]] || return 0
  file=$(setting "$1_FILE" "$SECRETS/$2")
  [[ -s $BETA9_ROOT$file ]] || printf '%s\n' "$file"
}

main "$@"
