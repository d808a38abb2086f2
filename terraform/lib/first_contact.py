"""Verify the SSH host key of a new machine before anything is sent to it. Background: docs/adr/0008.

Everything comes from the environment: HOST, PORT, LOGIN_USER, LOGIN_KEY_FILE (may be empty), KNOWN_HOSTS_FILE (is
written), TIMEOUT_S in seconds, and one of
    HOST_KEY             the machine's public host key or keys; no other key is accepted
    NONCE                the value of BETA9_HOST_KEY_NONCE in its user data; knowing it proves which host key is the
                         machine's
    TRUST_KNOWN_HOSTS=1  the machine's key in the user's own ~/.ssh/known_hosts is accepted

Waits until the machine accepts the login. Uses only the standard library and OpenSSH, since it runs wherever
`terraform` does.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAUSE_S = 5.0
CONTEXT = b"beta9-worker host key\n"
NOT_YET = 75
PROOF = r"""
import glob, hashlib, hmac, os, re, sys
root = os.environ.get("BETA9_ROOT", "")
try:
    text = open(root + "/etc/beta9-worker/worker.env").read()
except FileNotFoundError:
    sys.exit(75)
found = re.search(r"^BETA9_HOST_KEY_NONCE=(\S+)$", text, re.M)
nonce = found.group(1) if found else ""
for each in sorted(glob.glob(root + "/etc/ssh/ssh_host_*_key.pub")):
    key = " ".join(open(each).read().split()[:2])
    print(hmac.new(nonce.encode(), b"beta9-worker host key\n" + key.encode(), hashlib.sha256).hexdigest())
"""
"""Runs on the machine as root. A man in the middle could run it as well, but does not know the nonce: only the holder
of the login key can read it on the machine. Exits with NOT_YET while the user data has not arrived."""


class ContactError(Exception):
    """The machine cannot be reached or verified; the message says what to do."""


def proof_of(nonce: str, key: str) -> str:
    """Return the proof that a machine with this nonce gives for its host key ("ssh-ed25519 AAAA…")."""
    return hmac.new(nonce.encode(), CONTEXT + key.encode(), hashlib.sha256).hexdigest()


class Contact:
    """One machine and how to log in to it.

    Raises:
        ContactError: HOST is not a host name or address.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.host, self.port = environment["HOST"], environment.get("PORT") or "22"
        self.user, self.identity = environment["LOGIN_USER"], environment.get("LOGIN_KEY_FILE", "")
        self.timeout_s = float(environment.get("TIMEOUT_S") or 1800)
        if not re.fullmatch(r"[0-9A-Za-z_][0-9A-Za-z_.:-]*", self.host):
            raise ContactError(f"{self.host!r} is not a host name or address")

    @property
    def name(self) -> str:
        """The machine's name in known_hosts."""
        return self.host if self.port == "22" else f"[{self.host}]:{self.port}"

    def argv(self, known_hosts: Path, strict: str) -> list[str]:
        """Return the ssh command line without the remote command; `strict` is StrictHostKeyChecking."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": strict,
            "UserKnownHostsFile": f'"{known_hosts}"',
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "HashKnownHosts": "no",
            "CheckHostIP": "no",
            "ConnectTimeout": "10",
            "ServerAliveInterval": "10",
            "ControlMaster": "no",
            "ControlPath": "none",
            "ForwardAgent": "no",
            "LogLevel": "ERROR",
        }
        argv = ["ssh", "-F", "none", "-T", "-p", self.port, "-l", self.user]
        if self.identity:
            argv += ["-i", self.identity, "-o", "IdentitiesOnly=yes"]
        return [
            *argv,
            *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
            "--",
            self.host,
        ]

    def wait(self, known_hosts: Path, strict: str, command: str, stdin: str) -> str:
        """Run one command as soon as the machine accepts the login; return its output.

        Raises:
            ContactError: the login fails until the timeout, the host key differs, or the command fails.
        """
        deadline_s = time.monotonic() + self.timeout_s
        while True:
            if strict != "yes":
                # A first boot may generate new host keys while we wait: only the key of the last connection counts.
                known_hosts.write_text("")
            done = subprocess.run(
                [*self.argv(known_hosts, strict), command],
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                return done.stdout
            stderr = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            if "Host key verification failed" in stderr or "HOST IDENTIFICATION HAS CHANGED" in stderr:
                raise ContactError(
                    f"the host key of {self.name} differs from the one in {known_hosts}: nothing was sent"
                )
            if done.returncode not in {255, NOT_YET}:
                raise ContactError(f"{self.user}@{self.name}: a command as root failed: {stderr}")
            if time.monotonic() > deadline_s:
                raise ContactError(
                    f"{self.user}@{self.name} is not ready after {self.timeout_s:.0f} s: {stderr}"
                )
            time.sleep(min(PAUSE_S, self.timeout_s / 20))


AS_ROOT = 'if [ "$(id -u)" = 0 ]; then exec "$@"; else exec sudo -n "$@"; fi'


def as_root(command: str) -> str:
    """Return a shell command that runs `command` as root: directly as root, otherwise with passwordless sudo."""
    return f"sh -c '{AS_ROOT}' sh {command}"


def trust_given_key(contact: Contact, keys: str, known_hosts: Path) -> None:
    """Write the given host keys to `known_hosts` and verify that the machine has one of them.

    Raises:
        ContactError: see `Contact.wait`.
    """
    lines = [f"{contact.name} {' '.join(line.split()[:2])}\n" for line in keys.splitlines() if line.strip()]
    known_hosts.write_text("".join(lines))
    contact.wait(known_hosts, "yes", "true", "")


def keys_in_known_hosts(contact: Contact) -> str:
    """Return the machine's public keys in the user's own known_hosts, one per line.

    Raises:
        ContactError: there are none.
    """
    file = Path.home() / ".ssh/known_hosts"
    argv = ["ssh-keygen", "-F", contact.name, "-f", str(file)]
    lines = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()
    # Neither comments nor lines with a marker, such as @revoked.
    keys = [" ".join(line.split()[1:3]) for line in lines if line[:1] not in {"", "#", "@"}]
    if not keys:
        raise ContactError(
            f"nothing identifies {contact.name}: it is not in {file}. Log in to it once with ssh and compare the key"
            " that it shows with the one on its console, or set host_key"
        )
    return "\n".join(keys)


def trust_proven_key(contact: Contact, nonce: str, known_hosts: Path) -> None:
    """Write the host key that the machine shows to `known_hosts`, if the machine can prove it with the nonce.

    Raises:
        ContactError: the proof is missing or wrong.
    """
    proofs = contact.wait(known_hosts, "accept-new", as_root("python3 -"), PROOF).split()
    shown = [" ".join(line.split()[1:3]) for line in known_hosts.read_text().splitlines()]
    if len(shown) != 1 or not any(hmac.compare_digest(proof_of(nonce, shown[0]), each) for each in proofs):
        known_hosts.write_text("")
        raise ContactError(
            f"{contact.name} cannot prove that its host key belongs to the machine that was launched: there may be a "
            "man in the middle, or its image was booted before. Nothing was sent. Compare the key on the machine's "
            "console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and set it as host_key."
        )


def verify_host_key(environment: dict[str, str], known_hosts: Path) -> Contact:
    """Write the machine's verified host key to `known_hosts`.

    Raises:
        ContactError: the machine could not be reached or verified.
    """
    contact = Contact(environment)
    if environment.get("HOST_KEY"):
        trust_given_key(contact, environment["HOST_KEY"], known_hosts)
    elif environment.get("NONCE"):
        trust_proven_key(contact, environment["NONCE"], known_hosts)
    elif environment.get("TRUST_KNOWN_HOSTS"):
        trust_given_key(contact, keys_in_known_hosts(contact), known_hosts)
    else:
        raise ContactError("neither HOST_KEY nor NONCE is set: nothing identifies the machine")
    return contact


def main() -> int:
    environment = dict(os.environ)
    target = Path(environment["KNOWN_HOSTS_FILE"])
    # Renamed into place only when complete, so that every reader may trust it.
    with tempfile.TemporaryDirectory(prefix=".known-", dir=target.parent) as directory:
        file = Path(directory) / "known_hosts"
        try:
            contact = verify_host_key(environment, file)
        except (ContactError, OSError) as error:
            print(f"first contact: {error}", file=sys.stderr)
            return 1
        file.replace(target)
    print(f"Verified the host key of {contact.name}; it is in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
