"""What this machine has for a throw-away sshd: the program, its version, who would log in, and a free port."""

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
    """The path of sshd, which is seldom on an ordinary user's PATH. Raises: SettingsError."""
    path = shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if path is None:
        raise SettingsError(
            "no sshd on this machine (looked on PATH, in /usr/sbin and /usr/local/sbin); install the package"
            " openssh-server (Debian, Ubuntu, Fedora) or openssh (Alpine, Arch). It need not run as a service"
        )
    return path


def version_of(sshd: str) -> tuple[int, int]:
    """Major and minor version of OpenSSH, or (0, 0) where it says none.

    Older ones do not know -V, and begin the complaint about it with their version.
    """
    said = run([sshd, "-V"], timeout_s=10, ok_codes=range(256)).stderr
    match = re.search(r"OpenSSH_(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def own_name() -> str:
    """The login name of who runs this. Raises: SettingsError for a uid that has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise SettingsError(
            f"uid {os.geteuid()} has no entry in /etc/passwd, so nobody could log in; run as another user"
        ) from error


def free_port(host: str) -> int:
    """A TCP port that was free a moment ago, outside the range from which the kernel takes clients' ports.

    Inside it, a client that keeps dialling while the server is down can be given that very port for its own
    end, and is then connected to itself. Raises: TransientError.
    """
    clients = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="utf-8").split()
    first, end = (
        (FIRST_PORT, int(clients[0])) if int(clients[0]) > FIRST_PORT else (int(clients[1]) + 1, 65536)
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
    raise TransientError(f"found no free TCP port from {first} to {end - 1} on {host}; give one")
