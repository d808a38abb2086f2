#!/usr/bin/env bash
# Starts and stops a Docker Engine, unless one answers already.
#
#   scripts/engine.sh start           start one, through the service manager if there is one, else dockerd directly
#   scripts/engine.sh stop            stop a dockerd that `start` started directly
#   scripts/engine.sh run COMMAND…    start one if needed, for as long as COMMAND runs
#
# DOCKER_HOST=unix:///DIR/docker.sock selects a separate engine with its own bridge, whose data, socket and log are in
# DIR; other engines on the machine are not touched. Without DOCKER_HOST it is the machine's default engine.
set -Eeuo pipefail

DOCKER=${DOCKER:-docker}
SOCKET=/var/run/docker.sock
START_S=180
STARTS=3 # dockerd gives up if containerd takes more than 15 s; on a cold, busy machine the second attempt succeeds

main() {
    cd "$(dirname "$0")/.."
    [[ -z ${DOCKER_HOST:-} ]] || SOCKET=${DOCKER_HOST#unix://}
    locate
    case ${1:-} in
    start) answers || { start && print_usage_hint; } ;;
    stop) stop ;;
    run) shift && run "$@" ;;
    *) echo "usage: scripts/engine.sh start | stop | run COMMAND…" >&2 && return 2 ;;
    esac
}

# Set this engine's directory, bridge and dockerd options.
locate() {
    options=(-H "unix://$SOCKET")
    directory=.build/engine bridge=''
    [[ $SOCKET != /var/run/docker.sock && $SOCKET != /run/docker.sock ]] || return 0
    directory=$(dirname "$SOCKET")
    bridge=b9$(printf %s "$SOCKET" | sha256sum | cut -c1-8)
    options+=(--data-root "$directory/data" --exec-root "$directory/exec" --bridge "$bridge")
    # If the machine runs containerd, dockerd uses that one; namespaces keep the engines apart.
    options+=(--containerd-namespace "$bridge" --containerd-plugins-namespace "$bridge-plugins")
}

answers() {
    timeout 20 "$DOCKER" version >/dev/null 2>&1
}

run() {
    if answers; then
        "$@"
        return
    fi
    start
    trap stop EXIT
    "$@"
}

start() {
    check_startable
    if [[ -z $bridge && -d /run/systemd/system ]]; then
        systemctl start docker
    else
        start_dockerd
    fi
    answers || {
        echo "The Docker Engine was started but does not answer at $SOCKET" >&2
        return 1
    }
}

print_usage_hint() {
    echo "It runs until 'scripts/engine.sh stop'${bridge:+ with the same DOCKER_HOST}."
    [[ -z $bridge ]] || echo "Reach it with: export DOCKER_HOST=unix://$SOCKET"
}

check_startable() {
    local reason=''
    [[ ${DOCKER_HOST:-unix://} == unix://* ]] || reason="DOCKER_HOST=$DOCKER_HOST is not a local socket"
    ((EUID == 0)) || reason="this needs root: sudo systemctl start docker"
    command -v dockerd >/dev/null || reason="dockerd is not installed: sudo apt-get install docker.io"
    [[ -z $reason ]] || {
        echo "No Docker Engine answers at ${DOCKER_HOST:-$SOCKET}, and none can be started here: $reason" >&2
        return 1
    }
}

start_dockerd() {
    local number pid
    mkdir -p "$directory"
    [[ -z $bridge ]] || make_bridge
    for ((number = 1; number <= STARTS; number++)); do
        # Like a service: without this script's DOCKER_HOST, and independent of its terminal.
        env -u DOCKER_HOST setsid dockerd "${options[@]}" --pidfile "$directory/docker.pid" \
            >"$directory/dockerd.log" 2>&1 </dev/null &
        pid=$!
        ! wait_until_up "$pid" || break
    done
    if ((number > STARTS)); then
        tail -n 20 "$directory/dockerd.log" >&2
        echo "dockerd did not start; the full log is $directory/dockerd.log" >&2
        return 1
    fi
    echo "Started a Docker Engine (dockerd, pid $pid, log $directory/dockerd.log), because none answered and there is" \
        "no service manager."
}

# wait_until_up PID: succeed once dockerd answers; kill it and fail if it does not in time.
wait_until_up() {
    local tries
    for ((tries = 0; tries < START_S; tries++)); do
        kill -0 "$1" 2>/dev/null || return 1
        ! answers || return 0
        sleep 1
    done
    kill -KILL "$1"
    return 1
}

# Create the engine's bridge, in a private range that no route of this machine covers yet.
make_bridge() {
    local number
    ! ip link show "$bridge" >/dev/null 2>&1 || return 0
    for ((number = 200; number < 250; number++)); do
        [[ -z $(ip -4 route show root "10.$number.0.0/16") ]] || continue
        ip link add "$bridge" type bridge
        ip address add "10.$number.0.1/24" dev "$bridge"
        ip link set "$bridge" up
        return 0
    done
    echo "No free address range for the engine's bridge in 10.200.0.0 to 10.249.255.255" >&2
    return 1
}

stop() {
    local pid tries
    [[ -s $directory/docker.pid ]] || return 0
    pid=$(<"$directory/docker.pid")
    [[ $(ps -o comm= -p "$pid" 2>/dev/null) == dockerd ]] || return 0
    kill "$pid"
    for ((tries = 0; tries < 60; tries++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 1
    done
    [[ -z $bridge ]] || ip link delete "$bridge" 2>/dev/null || true
}

main "$@"
