"""Makes a new machine's SSH host key known, before anything is sent there: docs/adr/0008 has why, and why so.

All by the environment: HOST, PORT, LOGIN_USER, LOGIN_KEY_FILE (may be empty), KNOWN_HOSTS_FILE (is written), TIMEOUT_S,
and one of
    HOST_KEY  the machine's public key or keys: those, and no other
    NONCE     what its user data holds as BETA9_HOST_KEY_NONCE: whoever knows it may say which key is the machine's

Waits until the machine lets us in. Standard library and OpenSSH only, since it runs where `terraform` does.
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
"""Runs on the machine as root. Somebody in between could run it, too, but has no nonce: the machine lets only us in."""


class ContactError(Exception):
    """Why the machine is not known, and what to do."""


def proof_of(nonce: str, key: str) -> str:
    """Return what a machine with this nonce says of its host key ("ssh-ed25519 AAAA…")."""
    return hmac.new(nonce.encode(), CONTEXT + key.encode(), hashlib.sha256).hexdigest()


class Contact:
    """One machine, and how to reach it."""

    def __init__(self, given: dict[str, str]) -> None:
        self.host, self.port = given["HOST"], given.get("PORT") or "22"
        self.user, self.identity = given["LOGIN_USER"], given.get("LOGIN_KEY_FILE", "")
        self.timeout_s = float(given.get("TIMEOUT_S") or 1800)
        if not re.fullmatch(r"[0-9A-Za-z_][0-9A-Za-z_.:-]*", self.host):
            raise ContactError(f"{self.host!r} is no host")

    @property
    def name(self) -> str:
        """What known_hosts calls it."""
        return self.host if self.port == "22" else f"[{self.host}]:{self.port}"

    def argv(self, known_hosts: Path, strict: str) -> list[str]:
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
        words = ["ssh", "-F", "none", "-T", "-p", self.port, "-l", self.user]
        if self.identity:
            words += ["-i", self.identity, "-o", "IdentitiesOnly=yes"]
        return [
            *words,
            *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
            "--",
            self.host,
        ]

    def wait(self, known_hosts: Path, strict: str, command: str, text: str) -> str:
        """Run one command there as soon as the machine lets us; return what it prints.

        Raises:
            ContactError: it does not, or shows another host key.
        """
        deadline_s = time.monotonic() + self.timeout_s
        while True:
            if strict != "yes":
                # A first boot may make new host keys while we wait; what counts is the key of the answer.
                known_hosts.write_text("")
            done = subprocess.run(
                [*self.argv(known_hosts, strict), command],
                input=text,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                return done.stdout
            said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            if "Host key verification failed" in said or "HOST IDENTIFICATION HAS CHANGED" in said:
                raise ContactError(
                    f"{self.name} shows another host key than {known_hosts} has: nothing was sent"
                )
            if done.returncode not in {255, NOT_YET}:
                raise ContactError(f"{self.user}@{self.name} cannot do what is needed as root: {said}")
            if time.monotonic() > deadline_s:
                raise ContactError(
                    f"{self.user}@{self.name} is not to be had after {self.timeout_s:.0f} s: {said}"
                )
            time.sleep(min(PAUSE_S, self.timeout_s / 20))


AS_ROOT = 'if [ "$(id -u)" = 0 ]; then exec "$@"; else exec sudo -n "$@"; fi'


def as_root(command: str) -> str:
    """Return a command line that runs `command` as root, whether root logs in or somebody who may become it."""
    return f"sh -c '{AS_ROOT}' sh {command}"


def known_by_key(contact: Contact, keys: str, known_hosts: Path) -> None:
    """Take the keys that are given, and see that the machine has one of them."""
    lines = [f"{contact.name} {' '.join(line.split()[:2])}\n" for line in keys.splitlines() if line.strip()]
    known_hosts.write_text("".join(lines))
    contact.wait(known_hosts, "yes", "true", "")


def known_by_proof(contact: Contact, nonce: str, known_hosts: Path) -> None:
    """Take the key that is shown, if the machine can say of it what only the machine can.

    Raises:
        ContactError: somebody else answered.
    """
    said = contact.wait(known_hosts, "accept-new", as_root("python3 -"), PROOF).split()
    shown = [" ".join(line.split()[1:3]) for line in known_hosts.read_text().splitlines()]
    if len(shown) != 1 or not any(hmac.compare_digest(proof_of(nonce, shown[0]), each) for each in said):
        known_hosts.write_text("")
        raise ContactError(
            f"{contact.name} cannot prove that its host key is that of the machine which was launched: somebody may "
            "be in between, or its image was started before. Nothing was sent. Compare the key on the machine's "
            "console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and give it as host_key."
        )


def meet(given: dict[str, str], known_hosts: Path) -> Contact:
    """Make the machine's host key known in a file.

    Raises:
        ContactError: it could not be told from somebody else's.
    """
    contact = Contact(given)
    if given.get("HOST_KEY"):
        known_by_key(contact, given["HOST_KEY"], known_hosts)
    elif given.get("NONCE"):
        known_by_proof(contact, given["NONCE"], known_hosts)
    else:
        raise ContactError("neither HOST_KEY nor NONCE: there is nothing to know the machine by")
    return contact


def main() -> int:
    given = dict(os.environ)
    target = Path(given["KNOWN_HOSTS_FILE"])
    # Only a file that is complete gets the name: whoever reads it may trust it.
    with tempfile.TemporaryDirectory(prefix=".known-", dir=target.parent) as directory:
        file = Path(directory) / "known_hosts"
        try:
            contact = meet(given, file)
        except (ContactError, OSError) as error:
            print(f"first contact: {error}", file=sys.stderr)
            return 1
        file.replace(target)
    print(f"{contact.name} is the machine that was meant; its host key is in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
