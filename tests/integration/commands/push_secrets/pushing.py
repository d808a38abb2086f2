"""Running `beta9-worker push-secrets` against a real sshd."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from tests import ROOT
from tests.sshd import Sshd

TOKEN = "t0KeN-" + "a" * 82
ORDINARY = {"ForceCommand": None, "Subsystem": None}
"""sshd options of an ordinary machine, which runs commands."""


def command(machine: Sshd, directory: Path, *words: str, pinned: bool = True) -> list[str]:
    """Return the command line that pushes secrets to a directory of the machine."""
    pins = ["--known-hosts", str(machine.known_hosts_path)] if pinned else []
    destination = [
        f"{machine.user}@{machine.host}",
        "--port",
        str(machine.port),
        "--directory",
        str(directory),
    ]
    login = ["--identity", str(machine.key_path)]
    return [sys.executable, "-m", "agent", "push-secrets", *destination, *login, *pins, *words]


def push(argv: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command without any other BETA9_ settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BETA9_")}
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=180, cwd=ROOT, env={**clean, **environ}
    )


def both(files: dict[str, Path]) -> list[str]:
    """Return the options for both files."""
    return ["--token-file", str(files["token"]), "--ssh-key-file", str(files["ssh_key"])]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
