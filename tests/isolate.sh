#!/usr/bin/env bash
# Runs a command with its own loopback and its own set of named network namespaces; see tests/isolation.py.
#
#   unshare --net --mount tests/isolate.sh COMMAND [ARGUMENT…]
#
# unshare(1) makes mounts private: nothing mounted here is visible outside.
set -Eeuo pipefail

main() {
    ip link set lo up
    mkdir -p /run/netns
    mount -t tmpfs -o mode=0755 tmpfs /run/netns
    exec "$@"
}

main "$@"
