"""A single login at a throw-away sshd with the real ssh client, for tests of keys and host keys."""

from __future__ import annotations

import subprocess
from pathlib import Path

from agent.demo.sshd.throwaway import ThrowAwaySshd


def login(server: ThrowAwaySshd, key: Path, known_hosts: Path) -> str:
    """Log in, open the sftp subsystem, and leave. Return "" on success, otherwise ssh's stderr."""
    strict = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "ConnectTimeout": "10",
    }
    options = [word for name, value in strict.items() for word in ("-o", f"{name}={value}")]
    argv = ["ssh", "-F", "none", "-T", "-i", str(key), "-p", str(server.port), "-l", server.user, *options]
    result = subprocess.run(
        [*argv, "-s", "--", server.host, "sftp"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if result.returncode == 0 else result.stderr or f"exit code {result.returncode}"
