"""What a throwaway sshd needs from this machine: the program, its version, a user name, and a free port."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import socket
from pathlib import Path

from agent.adapters.process.run import run
from agent.errors import SettingsError, TransientError

FIRST_PORT = 20000
_PORT_TRIES = 50


def find_sshd() -> str:
    """Return the path of sshd, which is rarely on an ordinary user's PATH. Raises: SettingsError."""
    path = shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if path is None:
        raise SettingsError(
            "sshd not found on PATH, in /usr/sbin or in /usr/local/sbin; install the package openssh-server (Debian,"
            " Ubuntu, Fedora) or openssh (Alpine, Arch). It need not run as a service"
        )
    return path


def version_of(sshd: str) -> tuple[int, int]:
    """Return OpenSSH's major and minor version, or (0, 0) if unknown.

    Older versions do not know -V, but start their error message with the version.
    """
    stderr = run([sshd, "-V"], timeout_s=10, ok_codes=range(256)).stderr
    match = re.search(r"OpenSSH_(\d+)\.(\d+)", stderr)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def own_name() -> str:
    """Return the login name of the current user. Raises: SettingsError for a uid without one."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise SettingsError(
            f"uid {os.geteuid()} has no entry in /etc/passwd, so sshd could not let it log in; run as another user"
        ) from error


def free_port(host: str) -> int:
    """Return a TCP port that is free at the moment, outside the kernel's ephemeral port range.

    Inside that range, a client that keeps dialling while the server is down can get that very port as its source port,
    and would then connect to itself. Raises: TransientError.
    """
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="utf-8").split()
    first, end = (
        (FIRST_PORT, int(ephemeral[0])) if int(ephemeral[0]) > FIRST_PORT else (int(ephemeral[1]) + 1, 65536)
    )
    for _ in range(_PORT_TRIES if first < end else 0):
        port = first + secrets.randbelow(end - first)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise TransientError(f"found no free TCP port from {first} to {end - 1} on {host}; specify a port")
