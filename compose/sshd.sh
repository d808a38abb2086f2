#!/usr/bin/env bash
# The gateway's host in compose.yaml: creates keys for host and worker, unless they exist, and the tunnel-only user,
# then runs sshd.
set -Eeuo pipefail
umask 077

ETC=/worker-etc # the worker's /etc/beta9-worker
HOST_KEY=/etc/ssh/ssh_host_ed25519_key

main() {
    mkdir -p "$ETC/secrets" /run/sshd
    [[ -s $ETC/secrets/ssh_key ]] || ssh-keygen -q -t ed25519 -N '' -C worker -f "$ETC/secrets/ssh_key"
    [[ -s $HOST_KEY ]] || ssh-keygen -q -t ed25519 -N '' -C sshd -f "$HOST_KEY"
    echo "sshd $(<"$HOST_KEY.pub")" >"$ETC/known_hosts"
    bash /opt/beta9-worker/bootstrap/gateway/setup.sh --pool-key --public-key "$ETC/secrets/ssh_key.pub"
    exec /usr/sbin/sshd -D -e
}

main "$@"
