"""A machine of tests/shell/install whose network is real: a namespace of its own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from tests.shell.install.fakehost import BOOTSTRAP, Host

PREFLIGHT = BOOTSTRAP / "steps/10-preflight.sh"
FINE = "this machine can become a worker"
ORDINARY = ("addr add 192.0.2.7/24 dev eth0", "route add default via 192.0.2.1")
"""What an ordinary machine's network has."""


def preflight(host: Host, *within: str, **settings: str) -> tuple[int, str]:
    """Return the exit code and all that is said."""
    host.write_settings(**settings)
    done = host.bash(PREFLIGHT, env={"BETA9_ENV_FILE": str(host.env_file)}, within=within)
    return done.returncode, done.stderr


def program(host: Host, name: str, body: str) -> None:
    (host.bin / name).unlink(missing_ok=True)
    (host.bin / name).write_text(f"#!/bin/bash\n{body}\n")
    (host.bin / name).chmod(0o755)


@dataclass(frozen=True)
class Machine:
    """A machine whose network is a namespace: eth0, joined to nothing."""

    host: Host
    space: str

    def ip(self, line: str) -> None:
        subprocess.run(["ip", "-n", self.space, *line.split()], check=True, capture_output=True)

    @property
    def within(self) -> list[str]:
        return ["ip", "netns", "exec", self.space]

    def bash(self, text: str) -> str:
        done = subprocess.run(
            [*self.within, "bash", "-ec", text],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        )
        return done.stdout
