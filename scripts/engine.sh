#!/usr/bin/env bash
# Sees to a Docker Engine where none answers.
#
#   scripts/engine.sh start           one that stays: by the service manager where there is one, else dockerd itself
#   scripts/engine.sh stop            end the one that `start` started by itself
#   scripts/engine.sh run COMMAND…    one for as long as COMMAND runs, if none answers already
#
# DOCKER_HOST=unix:///DIR/docker.sock asks for one of its own: its data, its bridge and its socket are in DIR and named
# after it, and nothing of the machine's other engines is touched. Without DOCKER_HOST it is the machine's own.
set -Eeuo pipefail

DOCKER=${DOCKER:-docker}
SOCKET=/var/run/docker.sock
START_S=180
STARTS=3 # dockerd gives its containerd 15 s and then ends; on a cold, busy machine the second time is fast enough

main() {
    cd "$(dirname "$0")/.."
    [[ -z ${DOCKER_HOST:-} ]] || SOCKET=${DOCKER_HOST#unix://}
    place
    case ${1:-} in
    start) answers || { start && say_how_to_go_on; } ;;
    stop) stop ;;
    run) shift && run "$@" ;;
    *) echo "usage: scripts/engine.sh start | stop | run COMMAND…" >&2 && return 2 ;;
    esac
}

# Where this engine keeps what it has, and what dockerd is told beyond that.
place() {
    options=(-H "unix://$SOCKET")
    directory=.build/engine bridge=''
    [[ $SOCKET != /var/run/docker.sock && $SOCKET != /run/docker.sock ]] || return 0
    directory=$(dirname "$SOCKET")
    bridge=b9$(printf %s "$SOCKET" | sha256sum | cut -c1-8)
    options+=(--data-root "$directory/data" --exec-root "$directory/exec" --bridge "$bridge")
    # Where the machine has a containerd of its own, dockerd takes that one.
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
    refuse_what_cannot_be_started
    if [[ -z $bridge && -d /run/systemd/system ]]; then
        systemctl start docker
    else
        start_dockerd
    fi
    answers || {
        echo "The Docker Engine was started and does not answer at $SOCKET" >&2
        return 1
    }
}

say_how_to_go_on() {
    echo "It stays until 'scripts/engine.sh stop'${bridge:+ with the same DOCKER_HOST}."
    [[ -z $bridge ]] || echo "Reach it with: export DOCKER_HOST=unix://$SOCKET"
}

refuse_what_cannot_be_started() {
    local why=''
    [[ ${DOCKER_HOST:-unix://} == unix://* ]] || why="it is at $DOCKER_HOST"
    ((EUID == 0)) || why="that takes root: sudo systemctl start docker"
    command -v dockerd >/dev/null || why="dockerd is not installed: sudo apt-get install docker.io"
    [[ -z $why ]] || {
        echo "No Docker Engine answers at ${DOCKER_HOST:-$SOCKET}, and none can be started here: $why" >&2
        return 1
    }
}

start_dockerd() {
    local number pid
    mkdir -p "$directory"
    [[ -z $bridge ]] || make_bridge
    for ((number = 1; number <= STARTS; number++)); do
        # A service would not have our DOCKER_HOST, nor end with our terminal.
        env -u DOCKER_HOST setsid dockerd "${options[@]}" --pidfile "$directory/docker.pid" \
            >"$directory/dockerd.log" 2>&1 </dev/null &
        pid=$!
        ! comes_up "$pid" || break
    done
    if ((number > STARTS)); then
        tail -n 20 "$directory/dockerd.log" >&2
        echo "dockerd does not come up; the whole log is $directory/dockerd.log" >&2
        return 1
    fi
    echo "Started a Docker Engine (dockerd, pid $pid, log $directory/dockerd.log), since none answered and no service" \
        "manager runs."
}

# comes_up PID: whether it answers in time; ended if not.
comes_up() {
    local tries
    for ((tries = 0; tries < START_S; tries++)); do
        kill -0 "$1" 2>/dev/null || return 1
        ! answers || return 0
        sleep 1
    done
    kill -KILL "$1"
    return 1
}

# A bridge of its own, in a private range that no route of this machine covers yet.
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
    echo "No free range of addresses for an engine's bridge" >&2
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
