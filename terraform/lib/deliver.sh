#!/usr/bin/env bash
# Deliver the source tarball and the secrets to a new machine: find its address, verify its host key, and send them.
#
# Everything comes from the environment: HOST, or LAMBDA_INSTANCE_ID (with LAMBDA_API and REST_API_BEARER) to look it up;
# SOURCE_FILE, or TOKEN_FILE and TUNNEL_KEY_FILE, or all of them, local paths; the variables of first_contact.py and
# over_ssh.py. Secrets are on no command line.
set -Eeuo pipefail

main() {
    local lib tree
    lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    tree=$(cd "$lib/../.." && pwd)
    if [[ -z ${HOST:-} ]]; then
        HOST=$(python3 "$lib/lambda_api.py" address "$LAMBDA_INSTANCE_ID")
        echo "The machine is active at $HOST"
    fi
    export HOST
    # The remaining steps do not need the account's API key.
    unset REST_API_BEARER
    python3 "$lib/first_contact.py"
    [[ -z ${SOURCE_FILE:-} ]] || python3 "$lib/over_ssh.py" send
    [[ -n ${TOKEN_FILE:-} ]] || return 0
    local identity=()
    [[ -z ${LOGIN_KEY_FILE:-} ]] || identity=(--identity "$LOGIN_KEY_FILE")
    PYTHONPATH=$tree python3 -m agent push-secrets "${identity[@]}" --port "$PORT" --known-hosts "$KNOWN_HOSTS_FILE" \
        --token-file "$TOKEN_FILE" --ssh-key-file "$TUNNEL_KEY_FILE" --directory "$SECRETS_DIRECTORY" "$LOGIN_USER@$HOST"
}

main "$@"
