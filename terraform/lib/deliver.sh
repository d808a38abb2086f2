#!/usr/bin/env bash
# Sends a new machine its secrets: finds its address, makes its host key known, and has push-secrets do the rest.
#
# All by the environment. HOST, or LAMBDA_INSTANCE_ID (and LAMBDA_API, REST_API_BEARER) to ask for it; TOKEN_FILE and
# TUNNEL_KEY_FILE, paths of files here; what first_contact.py wants. Contents are on no command line.
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
    # What comes next needs no key to the account.
    unset REST_API_BEARER
    python3 "$lib/first_contact.py"
    local identity=()
    [[ -z ${LOGIN_KEY_FILE:-} ]] || identity=(--identity "$LOGIN_KEY_FILE")
    PYTHONPATH=$tree python3 -m agent push-secrets "${identity[@]}" --port "$PORT" --known-hosts "$KNOWN_HOSTS_FILE" \
        --token-file "$TOKEN_FILE" --ssh-key-file "$TUNNEL_KEY_FILE" --directory "$SECRETS_DIRECTORY" "$LOGIN_USER@$HOST"
}

main "$@"
