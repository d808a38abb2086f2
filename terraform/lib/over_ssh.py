"""Makes a machine that exists a worker, over SSH, and makes it leave again.

    over_ssh.py install   puts the boot script (SCRIPT) there, starts it, and tells what the bootstrap tells
    over_ssh.py leave     has the worker drain and leave, and with UNINSTALL=1 takes the bootstrap back

By the environment: HOST, PORT, LOGIN_USER, LOGIN_KEY_FILE, HOST_KEY as first_contact.py wants them, TIMEOUT_S for the
whole; install: SOURCE_FILE, a tarball to send along, and SOURCE_PATH, where to; leave: WHEN_IDLE=1.

The bootstrap runs detached and is looked at from here, since a driver may want a reboot, which ends every connection.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from first_contact import Contact, ContactError, as_root, known_by_key

PAUSE_S = 3.0
STATE = "${BETA9_ROOT:-}/var/lib/beta9-worker"
# worker.env is ours: the boot script writes it only where there is none. Whoever applies wants the machine back, even
# if it was told to leave before. The number of the run tells its traces from those of an earlier one.
START = rf"""
set -eu
root=${{BETA9_ROOT:-}} state={STATE}
umask 077
mkdir -p "$state" "$root/opt/beta9-worker"
cat >"$root/opt/beta9-worker/boot.new"
mv "$root/opt/beta9-worker/boot.new" "$root/opt/beta9-worker/boot.sh"
rm -f "$root/etc/beta9-worker/worker.env" "$state/stop.json" "$state/bootstrap.json" "$state/over-ssh.code"
setsid sh -c 'bash "$1"; echo $? >"$2.new"; mv "$2.new" "$2"' sh \
    "$root/opt/beta9-worker/boot.sh" "$state/over-ssh.code" >"$state/over-ssh.log" 2>&1 </dev/null &
"""
# One look: the exit code if it has ended, what is new in its output, and its own record.
LOOK = f"""
state={STATE}
printf '%s\\n' "$(cat "$state/over-ssh.code" 2>/dev/null)"
tail -c +"$(($1 + 1))" "$state/over-ssh.log" 2>/dev/null | head -c 65536 | base64 | tr -d '\\n'
echo
tr -d '\\n' <"$state/bootstrap.json" 2>/dev/null
"""
LEAVE = """
root=${BETA9_ROOT:-}
PATH=$root/usr/local/bin:$PATH:/usr/local/bin
if ! command -v beta9-worker >/dev/null; then echo "beta9-worker is not installed here"; exit 0; fi
beta9-worker leave $1
"""
# systemd's word, not the agent's: the agent is gone when its service is. Where there is no systemd there is no service.
GOES_ON = """
PATH=${BETA9_ROOT:-}/usr/local/bin:$PATH
case $(systemctl is-active beta9-worker.service 2>/dev/null) in active | activating | deactivating) echo yes ;; esac
"""
UNINSTALL = """
root=${BETA9_ROOT:-}
if [ ! -e "$root/opt/beta9-worker/current/bootstrap/uninstall.sh" ]; then echo "there is no bootstrap here"; exit 0; fi
bash "$root/opt/beta9-worker/current/bootstrap/uninstall.sh"
"""


class Host:
    """The machine, once its host key is known."""

    def __init__(self, contact: Contact, known_hosts: Path) -> None:
        self._contact, self._known_hosts = contact, known_hosts

    def run(self, script: str, *words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a script as root with a few plain words, and bytes on its standard input."""
        quoted = "'" + script.replace("'", "'\\''") + "'"
        command = as_root(" ".join(["sh", "-c", quoted, "sh", *words]))
        argv = [*self._contact.argv(self._known_hosts, "yes"), command]
        return subprocess.run(argv, input=given, capture_output=True, check=False)

    def must(self, what: str, script: str, *words: str, given: bytes = b"") -> str:
        """Run and return its output.

        Raises:
            ContactError: it failed.
        """
        done = self.run(script, *words, given=given)
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        if done.returncode:
            raise ContactError(f"{what} failed ({done.returncode}): {said}")
        return said


def install(host: Host, given: Mapping[str, str], timeout_s: float) -> None:
    """Start the bootstrap and follow it to its end."""
    if given.get("SOURCE_FILE"):
        put = 'set -eu; umask 077; to=${BETA9_ROOT:-}$1; mkdir -p "${to%/*}"; cat >"$to.new"; mv "$to.new" "$to"'
        host.must(
            "sending the source tarball",
            put,
            given["SOURCE_PATH"],
            given=Path(given["SOURCE_FILE"]).read_bytes(),
        )
    host.must("starting the bootstrap", START, given=given["SCRIPT"].encode())
    record = follow(host, timeout_s)
    seconds = sum(each.get("seconds") or 0 for each in record.get("stages", []))
    say(f"the bootstrap is done: {len(record.get('stages', []))} stages, {seconds:.0f} s of work")


def follow(host: Host, timeout_s: float) -> dict[str, Any]:
    """Tell what the bootstrap tells until it has ended; return its record.

    Raises:
        ContactError: it failed, or did not end in time.
    """
    deadline_s, offset, heard = time.monotonic() + timeout_s, 0, "nothing yet"
    while time.monotonic() < deadline_s:
        done = host.run(LOOK, str(offset))
        if done.returncode == 0:
            code, new, record = parsed(done.stdout)
            offset += len(new)
            sys.stdout.write(new.decode(errors="replace"))
            sys.stdout.flush()
            heard = str(record.get("result", heard))
            failed = heard == "failed" or code not in {"", "0"}
            if failed and not new:
                fix = record.get("fix") or "see its output above"
                raise ContactError(f"the bootstrap failed in {record.get('failed_stage')}: {fix}")
            if heard == "ok" and code in {"", "0"} and not new:
                return record
        time.sleep(min(PAUSE_S, timeout_s / 20))
    raise ContactError(
        f"the bootstrap did not end within {timeout_s:.0f} s (last: {heard}); it may still go on there"
    )


def parsed(look: bytes) -> tuple[str, bytes, dict[str, Any]]:
    """Take one look apart: exit code or "", new output, the bootstrap's record or {}."""
    code, new, record, *_ = *look.decode().split("\n", 2), "", "", ""
    try:
        found = json.loads(record)
    except ValueError:
        found = {}
    return code.strip(), base64.b64decode(new), found if isinstance(found, dict) else {}


def leave(host: Host, given: Mapping[str, str], timeout_s: float) -> None:
    """Have the worker leave, wait until it has, and with UNINSTALL=1 take everything back.

    Raises:
        ContactError: it is still at work.
    """
    say(host.must("leaving", LEAVE, *(["--when-idle"] if given.get("WHEN_IDLE") == "1" else [""])))
    deadline_s = time.monotonic() + timeout_s
    while host.must("asking whether the worker has left", GOES_ON):
        if time.monotonic() > deadline_s:
            raise ContactError(
                f"the worker has not left within {timeout_s:.0f} s: it still has work; run this again"
            )
        time.sleep(min(PAUSE_S, timeout_s / 20))
    if given.get("UNINSTALL") == "1":
        say(host.must("uninstalling", UNINSTALL))


def say(text: str) -> None:
    print(text, flush=True)


def main(words: list[str]) -> int:
    if words not in (["install"], ["leave"]):
        print(__doc__, file=sys.stderr)
        return 2
    given = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="beta9-") as directory:
        known_hosts = Path(directory) / "known_hosts"
        try:
            contact = Contact({**given, "TIMEOUT_S": given.get("CONNECT_TIMEOUT_S", "60")})
            known_by_key(contact, given["HOST_KEY"], known_hosts)
            host = Host(contact, known_hosts)
            step = install if words == ["install"] else leave
            step(host, given, float(given.get("TIMEOUT_S") or 3600))
        except (ContactError, OSError) as error:
            print(f"over ssh: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
