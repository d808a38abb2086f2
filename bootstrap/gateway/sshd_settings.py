"""Find this host's sshd and read its effective configuration for one user."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

Settings = dict[str, list[str]]
"""Output of `sshd -T`: options in lower case, with the values of all their lines."""


class UnreadableError(Exception):
    """`sshd -T` failed; the message has its output."""


def find_sshd() -> str | None:
    return shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def version(sshd: str) -> str:
    """Return its version, such as OpenSSH_9.2p1, or "" if unknown."""
    # Before 9.2 sshd has no -V, but its usage message begins with the version.
    output = subprocess.run([sshd, "-V"], capture_output=True, text=True, timeout=60, check=False).stderr
    match = re.search(r"OpenSSH_[\w.]+", output)
    return match[0] if match else ""


def effective(sshd: str, config: Path, user: str) -> Settings:
    """Return the settings for this user, with Match blocks and included files applied.

    Raises: UnreadableError.
    """
    command = [sshd, "-T", "-f", str(config), "-C", f"user={user},host=localhost,addr=127.0.0.1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode != 0:
        raise UnreadableError(
            result.stderr.strip() or f"{' '.join(command)} failed with exit code {result.returncode}"
        )
    settings: Settings = {}
    for line in result.stdout.splitlines():
        name, _, value = line.partition(" ")
        settings.setdefault(name, []).append(value)
    return settings


def one(settings: Settings, name: str, default: str = "") -> str:
    """Return the option's value, or all its values joined by blanks."""
    return " ".join(settings.get(name, [default]))
