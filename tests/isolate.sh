#!/usr/bin/env bash
# Runs a command as the only user of a network and of the named network namespaces; see tests/isolation.py.
#
#   unshare --net --mount tests/isolate.sh COMMAND [ARGUMENT…]
#
# unshare(1) has made mounts private: nothing that is mounted here is seen outside.
set -Eeuo pipefail

main() {
    ip link set lo up
    mkdir -p /run/netns
    mount -t tmpfs -o mode=0755 tmpfs /run/netns
    exec "$@"
}

main "$@"
