#!/usr/bin/env bash
# The stand-in gateway in compose.yaml. It creates a machine, as `beta9 machine create` would, and gives the worker its
# token.
set -Eeuo pipefail
umask 077

TOKEN=/worker-etc/secrets/token
ADMIN=http://127.0.0.1:1995

main() {
    rm -f "$TOKEN"
    python -m agent.demo.gateway --port 31994 --admin-port 1995 --pool "$POOL:" --demand 1 --health-interval 2 &
    python - "$ADMIN" "$POOL" "$MACHINE_ID" >"$TOKEN.new" <<'END'
import sys, time
from agent.demo.gateway.admin import GatewayAdmin

admin, deadline_s = GatewayAdmin(sys.argv[1]), time.monotonic() + 60
while True:
    try:
        print(admin.create_machine(*sys.argv[2:])["registration_token"])
        break
    except OSError:
        if time.monotonic() > deadline_s:
            raise
        time.sleep(0.2)
END
    mv "$TOKEN.new" "$TOKEN"
    wait
}

main "$@"
