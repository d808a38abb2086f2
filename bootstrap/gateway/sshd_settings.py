"""What this host's sshd is, and what its configuration comes to for one user. Reads only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

Settings = dict[str, list[str]]
"""What `sshd -T` prints: option in lower case, and a value for each line."""


class UnreadableError(Exception):
    """`sshd -T` does not tell; the text says why."""


def find_sshd() -> str | None:
    return shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def version(sshd: str) -> str:
    """What it calls itself, such as OpenSSH_9.2p1, or "" where it doesn't say."""
    # Before 9.2 there was no -V, and the complaint about it begins with the version.
    said = subprocess.run([sshd, "-V"], capture_output=True, text=True, timeout=60, check=False).stderr
    match = re.search(r"OpenSSH_[\w.]+", said)
    return match[0] if match else ""


def effective(sshd: str, config: Path, user: str) -> Settings:
    """What holds for that user, Match blocks and included files applied. Raises: UnreadableError."""
    command = [sshd, "-T", "-f", str(config), "-C", f"user={user},host=localhost,addr=127.0.0.1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode != 0:
        raise UnreadableError(result.stderr.strip() or f"{' '.join(command)} ended with {result.returncode}")
    settings: Settings = {}
    for line in result.stdout.splitlines():
        name, _, value = line.partition(" ")
        settings.setdefault(name, []).append(value)
    return settings


def one(settings: Settings, name: str, default: str = "") -> str:
    """The option's value; of several lines, all of them."""
    return " ".join(settings.get(name, [default]))
