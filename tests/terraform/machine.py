"""A machine to log in to: a real sshd on loopback, where commands run as who runs the tests, and a folder for its /.

It stands in for a fresh VM. What would go to the host's own /etc and /var goes below `root`: the sessions carry
BETA9_ROOT, which the scripts under test put before every path of the machine's.
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
    sshd: Sshd
    root: Path

    @property
    def host_key(self) -> str:
        return " ".join(self.sshd.known_hosts.split()[1:3])

    def write_env(self, text: str) -> None:
        """Write worker.env, as its user data would."""
        (self.root / "etc/beta9-worker/worker.env").write_text(text)

    def publish_host_keys(self) -> None:
        """Have /etc/ssh hold the public keys that sshd shows."""
        lines = [line.split()[1:3] for line in self.sshd.known_hosts.splitlines()]
        for kind, key in lines:
            (self.root / f"etc/ssh/ssh_host_{kind}_key.pub").write_text(f"{kind} {key} root@machine\n")

    def environment(self) -> Mapping[str, str]:
        """What the steps are told of where the machine is, and who logs in how."""
        return {
            "PATH": PATH,
            "HOST": self.sshd.host,
            "PORT": str(self.sshd.port),
            "LOGIN_USER": self.sshd.user,
            "LOGIN_KEY_FILE": str(self.sshd.key_path),
        }


@contextlib.contextmanager
def machine(place: Path, **more: str) -> Iterator[Machine]:
    """Start one; `more` is what its sessions have in their environment, too."""
    if os.geteuid() != 0:
        pytest.skip("needs root: the steps become root on the machine, which is this one")
    root = place / "machine"
    for each in ("etc/beta9-worker", "etc/ssh", "var/lib/beta9-worker", "opt"):
        (root / each).mkdir(parents=True, exist_ok=True)
    told = {"BETA9_ROOT": str(root), **more}
    options = {"ForceCommand": None, "SetEnv": " ".join(f"{name}={value}" for name, value in told.items())}
    with Sshd(place / "sshd", options=options) as sshd:
        sshd.authorize(sshd.public_key())
        made = Machine(sshd, root)
        made.publish_host_keys()
        yield made
