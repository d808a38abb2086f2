"""A machine to log in to: a real sshd on loopback, whose sessions run as the tests' user, and a directory as its root.

It stands in for a fresh VM. Files go below `root` instead of the host's /etc and /var: the sessions have BETA9_ROOT
set, which the scripts under test put in front of every path.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sshd import Sshd

PATH = os.environ["PATH"]


@dataclass(frozen=True)
class Machine:
    """The running machine. Use `machine()`."""

    sshd: Sshd
    root: Path

    @property
    def host_key(self) -> str:
        return " ".join(self.sshd.known_hosts.split()[1:3])

    def write_env(self, text: str) -> None:
        """Write worker.env, as the user data would."""
        (self.root / "etc/beta9-worker/worker.env").write_text(text)

    def publish_host_keys(self) -> None:
        """Write the public keys that sshd presents to the machine's /etc/ssh."""
        lines = [line.split()[1:3] for line in self.sshd.known_hosts.splitlines()]
        for kind, key in lines:
            (self.root / f"etc/ssh/ssh_host_{kind}_key.pub").write_text(f"{kind} {key} root@machine\n")

    def environment(self) -> Mapping[str, str]:
        """Return the scripts' environment: where the machine is and how to log in."""
        return {
            "PATH": PATH,
            "HOST": self.sshd.host,
            "PORT": str(self.sshd.port),
            "LOGIN_USER": self.sshd.user,
            "LOGIN_KEY_FILE": str(self.sshd.key_path),
        }


@contextlib.contextmanager
def machine(place: Path, **more: str) -> Iterator[Machine]:
    """Start a machine; `more` is added to the environment of its sessions."""
    if os.geteuid() != 0:
        pytest.skip("needs root: the scripts become root on the machine, which is this host")
    root = place / "machine"
    for each in ("etc/beta9-worker", "etc/ssh", "var/lib/beta9-worker", "opt"):
        (root / each).mkdir(parents=True, exist_ok=True)
    variables = {"BETA9_ROOT": str(root), **more}
    set_env = " ".join(f"{name}={value}" for name, value in variables.items())
    options = {"ForceCommand": None, "SetEnv": set_env}
    with Sshd(place / "sshd", options=options) as sshd:
        sshd.authorize(sshd.public_key())
        made = Machine(sshd, root)
        made.publish_host_keys()
        yield made
