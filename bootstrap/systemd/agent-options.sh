#!/bin/sh
# Print the agent's options for `docker run`. `--gpus all` is left out while Docker cannot give a container the GPUs, for
# example because the driver is not loaded: Docker would start nothing, and nobody could say what is wrong.
# Written by the Beta9 worker bootstrap.
set -eu

env_file=${BETA9_AGENT_ENV:-/var/lib/beta9-worker/bootstrap/agent.env}

options=$(sed -n 's/^AGENT_OPTIONS=//p' "$env_file")
image=$(sed -n 's/^AGENT_IMAGE=//p' "$env_file")
case " $options " in
*' --gpus all '*)
    if ! reason=$(docker run --rm --network none --log-driver none --gpus all --entrypoint /bin/true "$image" 2>&1); then
        echo "beta9-worker: Docker cannot give a container the GPUs: $(printf %s "$reason" | tr '\n' ' ')" >&2
        options=$(printf ' %s ' "$options" | sed 's/ --gpus all / /; s/^ *//; s/ *$//')
    fi
    ;;
esac
printf '%s\n' "$options"
