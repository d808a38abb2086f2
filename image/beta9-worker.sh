#!/bin/sh
# Entry point of the image. ssh refuses to run for a uid without a name, and `docker run --user` may set any uid: this
# script gives it a name, in a file in /tmp, which is writable even if the root file system is read-only.
set -eu

if ! getent passwd "$(id -u)" >/dev/null; then
    if ! printf 'worker:x:%s:%s::/tmp:/usr/sbin/nologin\n' "$(id -u)" "$(id -g)" 2>/dev/null >/tmp/beta9-worker.passwd ||
        ! getent passwd "$(id -u)" >/dev/null; then
        echo "beta9-worker: uid $(id -u) has no name in this image, but ssh needs one: mount a tmpfs on /tmp and use" \
            "a uid of 500 or more, or run as root or as beta9" >&2
        exit 78
    fi
fi
exec /usr/local/lib/beta9-worker/bin/beta9-worker "$@"
