#!/bin/sh
# `beta9-worker COMMAND` on a worker: run it in the agent's container, or in a new one if the agent is not running.
# Written by the Beta9 worker bootstrap.
set -eu

env_file=/var/lib/beta9-worker/bootstrap/agent.env

if [ "$(id -u)" != 0 ]; then exec sudo "$0" "$@"; fi
terminal=
if [ -t 0 ] && [ -t 1 ]; then terminal=--tty; fi
if [ "$(docker inspect --format '{{.State.Running}}' beta9-worker 2>/dev/null)" = true ]; then
    # shellcheck disable=SC2086 # empty or one word
    exec docker exec --interactive $terminal beta9-worker beta9-worker "$@"
fi
image=$(sed -n 's/^AGENT_IMAGE=//p' "$env_file" 2>/dev/null || true)
if [ -z "$image" ]; then
    echo "beta9-worker: the bootstrap has not installed the agent yet; see /var/lib/beta9-worker/bootstrap.json" >&2
    exit 1
fi
options=$(/usr/local/lib/beta9-worker/agent-options)
# shellcheck disable=SC2086 # empty or several words
exec docker run --rm --interactive $terminal --privileged --userns host --network host \
    --volume /etc/beta9-worker:/etc/beta9-worker:ro --volume /var/lib/beta9-worker:/var/lib/beta9-worker \
    --volume /etc/rancher:/etc/rancher:ro $options "$image" "$@"
