"""Turn an existing machine into a worker over SSH, and make the worker leave again.

    over_ssh.py install   copy the boot script (SCRIPT) to the machine, run it, and show the bootstrap's output
    over_ssh.py send      send the source tarball to a new machine, whose boot script waits for it
    over_ssh.py leave     drain the worker and make it leave; with UNINSTALL=1, run the uninstaller afterwards

From the environment: HOST, PORT, LOGIN_USER, LOGIN_KEY_FILE and HOST_KEY as in first_contact.py (without HOST_KEY, the
machine's key in the user's known_hosts); TIMEOUT_S for the whole step; for install and send, SOURCE_FILE, the tarball,
and SOURCE_PATH, its path on the machine; for the checkout's own also SOURCE_SHA256 and SOURCE_COMMIT, of which it
is built if it is missing; for send, KNOWN_HOSTS_FILE, with the machine's host key, instead of HOST_KEY; for leave,
WHEN_IDLE=1.

The bootstrap runs detached and is polled from here, since a driver may need a reboot, which ends every connection.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from first_contact import Contact, ContactError, as_root, keys_in_known_hosts, trust_given_key

PAUSE_S = 3.0
STATE = "${BETA9_ROOT:-}/var/lib/beta9-worker"
# Removes the traces of an earlier run: worker.env, which the boot script writes only if it is missing; stop.json, since
# an apply brings back a machine that was asked to leave; and the results of the last bootstrap.
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
# Prints the exit code if the bootstrap has ended, its new output since byte $1, and bootstrap.json.
POLL = f"""
state={STATE}
printf '%s\\n' "$(cat "$state/over-ssh.code" 2>/dev/null)"
tail -c +"$(($1 + 1))" "$state/over-ssh.log" 2>/dev/null | head -c 65536 | base64 | tr -d '\\n'
echo
tr -d '\\n' <"$state/bootstrap.json" 2>/dev/null
"""
PUT = 'set -eu; umask 077; to=${BETA9_ROOT:-}$1; mkdir -p "${to%/*}"; cat >"$to.new"; mv "$to.new" "$to"'
# A boot that has ended without the tarball would not hear of it any more. Prints "again" if it is run again.
RETRY = f"""
state={STATE} boot=${{BETA9_ROOT:-}}/opt/beta9-worker/boot.sh
grep -q '"failed_stage":"boot"' "$state/bootstrap.json" 2>/dev/null && [ -e "$boot" ] || exit 0
rm "$state/bootstrap.json"
setsid bash "$boot" >>"$state/boot.log" 2>&1 </dev/null &
echo again
"""
LEAVE = """
root=${BETA9_ROOT:-}
PATH=$root/usr/local/bin:$PATH:/usr/local/bin
if ! command -v beta9-worker >/dev/null; then echo "beta9-worker is not installed here"; exit 0; fi
beta9-worker leave $1
"""
# Asks systemd rather than the agent, which does not answer while it stops. Without systemd there is no service.
IS_ACTIVE = """
PATH=${BETA9_ROOT:-}/usr/local/bin:$PATH
case $(systemctl is-active beta9-worker.service 2>/dev/null) in active | activating | deactivating) echo yes ;; esac
"""
UNINSTALL = """
root=${BETA9_ROOT:-}
if [ ! -e "$root/opt/beta9-worker/current/bootstrap/uninstall.sh" ]; then echo "no bootstrap installed here"; exit 0; fi
bash "$root/opt/beta9-worker/current/bootstrap/uninstall.sh"
"""


class Host:
    """The machine, once its host key is verified."""

    def __init__(self, contact: Contact, known_hosts: Path) -> None:
        self._contact, self._known_hosts = contact, known_hosts

    def run(self, script: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a shell script as root. `arguments` are not quoted: they must not contain shell characters."""
        quoted = "'" + script.replace("'", "'\\''") + "'"
        command = as_root(" ".join(["sh", "-c", quoted, "sh", *arguments]))
        argv = [*self._contact.argv(self._known_hosts, "yes"), command]
        return subprocess.run(argv, input=stdin, capture_output=True, check=False)

    def checked(self, what: str, script: str, *arguments: str, stdin: bytes = b"") -> str:
        """Run like `run` and return the output; `what` names the action in the error.

        Raises:
            ContactError: the script failed.
        """
        done = self.run(script, *arguments, stdin=stdin)
        output = (done.stdout + done.stderr).decode(errors="replace").strip()
        if done.returncode:
            raise ContactError(f"{what} failed (exit code {done.returncode}): {output}")
        return output


def install(host: Host, environment: Mapping[str, str], timeout_s: float) -> None:
    """Start the bootstrap and follow it until it has ended.

    Raises:
        ContactError: see `follow`.
    """
    if environment.get("SOURCE_FILE"):
        put_source(host, environment)
    host.checked("starting the bootstrap", START, stdin=environment["SCRIPT"].encode())
    record = follow(host, timeout_s)
    seconds = sum(each.get("seconds") or 0 for each in record.get("stages", []))
    say(f"the bootstrap has finished: {len(record.get('stages', []))} stages, {seconds:.0f} s of work")


def send(host: Host, environment: Mapping[str, str], _timeout_s: float) -> None:
    """Send the tarball, and run the boot script again if it has already given up waiting.

    Raises:
        ContactError: see `put_source`.
    """
    put_source(host, environment)
    if host.checked("looking at the boot", RETRY) == "again":
        say("the machine had given up waiting for the tarball; its boot script runs again")


def put_source(host: Host, environment: Mapping[str, str]) -> None:
    """Write the source tarball to its place on the machine; build it first if it is missing here.

    Raises:
        ContactError: it cannot be built, is not the one that the machine expects, or cannot be written there.
    """
    file, wanted = Path(environment["SOURCE_FILE"]), environment.get("SOURCE_SHA256")
    if wanted and not file.exists():
        script = Path(__file__).resolve().parents[2] / "scripts/source.sh"
        done = subprocess.run([str(script), environment["SOURCE_COMMIT"], str(file)], check=False)
        if done.returncode:
            raise ContactError(f"{script} failed (exit code {done.returncode}); see its output above")
    content = file.read_bytes()
    if wanted and hashlib.sha256(content).hexdigest() != wanted:
        raise ContactError(
            f"{file} is not the tarball that the machine expects: it was built by another version of git or gzip. Send"
            " it from where it was built, or build it anew for a new machine: terraform apply"
            " -replace=module.NAME.module.source.terraform_data.tarball[0]"
        )
    host.checked("sending the source tarball", PUT, environment["SOURCE_PATH"], stdin=content)
    say(f"sent the source tarball: {len(content) // 1024} KiB")


def follow(host: Host, timeout_s: float) -> dict[str, Any]:
    """Print the bootstrap's output until it has ended; return the content of bootstrap.json.

    Raises:
        ContactError: the bootstrap failed, or did not end in time.
    """
    deadline_s, offset, result = time.monotonic() + timeout_s, 0, "none yet"
    while time.monotonic() < deadline_s:
        done = host.run(POLL, str(offset))
        if done.returncode == 0:
            code, output, record = parse_poll(done.stdout)
            offset += len(output)
            sys.stdout.write(output.decode(errors="replace"))
            sys.stdout.flush()
            result = str(record.get("result", result))
            failed = result == "failed" or code not in {"", "0"}
            if failed and not output:
                stage, fix = (
                    record.get("failed_stage") or "unknown",
                    record.get("fix") or "see its output above",
                )
                raise ContactError(f"the bootstrap failed in stage {stage}: {fix}")
            if result == "ok" and code in {"", "0"} and not output:
                return record
        time.sleep(min(PAUSE_S, timeout_s / 20))
    raise ContactError(
        f"the bootstrap did not end within {timeout_s:.0f} s (last result: {result}); it may still be running there"
    )


def parse_poll(stdout: bytes) -> tuple[str, bytes, dict[str, Any]]:
    """Parse the output of POLL: the exit code or "", the new output, and bootstrap.json or {}."""
    code, output, record, *_ = *stdout.decode().split("\n", 2), "", "", ""
    try:
        parsed = json.loads(record)
    except ValueError:
        parsed = {}
    return code.strip(), base64.b64decode(output), parsed if isinstance(parsed, dict) else {}


def leave(host: Host, environment: Mapping[str, str], timeout_s: float) -> None:
    """Make the worker leave, wait until it has left, and with UNINSTALL=1 run the uninstaller.

    Raises:
        ContactError: the worker is still running after `timeout_s`.
    """
    say(host.checked("leaving", LEAVE, *(["--when-idle"] if environment.get("WHEN_IDLE") == "1" else [""])))
    deadline_s = time.monotonic() + timeout_s
    while host.checked("checking whether the worker has left", IS_ACTIVE):
        if time.monotonic() > deadline_s:
            raise ContactError(
                f"the worker has not left within {timeout_s:.0f} s: it still has work; run terraform destroy again"
            )
        time.sleep(min(PAUSE_S, timeout_s / 20))
    if environment.get("UNINSTALL") == "1":
        say(host.checked("uninstalling", UNINSTALL))


def say(text: str) -> None:
    print(text, flush=True)


def main(arguments: list[str]) -> int:
    steps = {"install": install, "send": send, "leave": leave}
    if len(arguments) != 1 or arguments[0] not in steps:
        print(__doc__, file=sys.stderr)
        return 2
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="beta9-") as directory:
        known_hosts = Path(directory) / "known_hosts"
        try:
            contact = Contact({**environment, "TIMEOUT_S": environment.get("CONNECT_TIMEOUT_S", "60")})
            if arguments == ["send"]:
                known_hosts = Path(environment["KNOWN_HOSTS_FILE"])
            else:
                keys = environment.get("HOST_KEY") or keys_in_known_hosts(contact)
                trust_given_key(contact, keys, known_hosts)
            host = Host(contact, known_hosts)
            steps[arguments[0]](host, environment, float(environment.get("TIMEOUT_S") or 3600))
        except (ContactError, OSError) as error:
            print(f"over ssh: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
