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
    output = _output([sshd, "-V"]).stderr
    match = re.search(r"OpenSSH_[\w.]+", output)
    return match[0] if match else ""


def numbers(name: str) -> tuple[int, int]:
    """Return major and minor of a version such as OpenSSH_9.2p1; (0, 0) if there are none."""
    match = re.search(r"(\d+)\.(\d+)", name)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def effective(sshd: str, config: Path, user: str, address: str) -> Settings:
    """Return the settings for this user, coming from that address, with Match blocks and included files applied.

    Raises: UnreadableError.
    """
    connection = f"user={user},host={address},addr={address},laddr=127.0.0.1,lport=22"
    command = [sshd, "-T", "-f", str(config), "-C", connection]
    result = _output(command)
    missing = re.search(r"Missing privilege separation directory: (\S+)", result.stderr)
    if missing and os.geteuid() == 0:
        # sshd's unit creates it, so with socket activation it is missing until somebody connects.
        Path(missing[1]).mkdir(mode=0o755, parents=True, exist_ok=True)
        result = _output(command)
    if result.returncode != 0:
        raise UnreadableError(
            result.stderr.strip() or f"{' '.join(command)} failed with exit code {result.returncode}"
        )
    settings: Settings = {}
    for line in result.stdout.splitlines():
        name, _, value = line.partition(" ")
        settings.setdefault(name.lower(), []).append(value)
    return settings


def _output(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def one(settings: Settings, name: str, default: str = "") -> str:
    """Return the option's value, or all its values joined by blanks."""
    return " ".join(settings.get(name, [default]))


def listening(settings: Settings) -> list[tuple[str, int]]:
    """Return where sshd listens, as address and port to dial on this host."""
    places = []
    for value in settings.get("listenaddress", []):
        host, _, port = value.rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104 - not bound
        places.append((host, int(port)))
    return sorted(places, key=lambda place: place[0] != "127.0.0.1")
