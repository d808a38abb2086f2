"""Check that workers can listen on port 6443 of this host: a single wildcard listener would block them all."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from findings import FAILED, OK, Finding

PORT = 6443
ADDRESS = "127.64.0.255"
"""In the workers' block, but never assigned: workers' addresses end in 1 to 254."""
_LISTEN = "0A"
_WILDCARDS = {"00000000": "0.0.0.0", "0" * 32: "[::]"}  # noqa: S104 - compared, not bound


def findings() -> list[Finding]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, PORT))
            probe.listen()
        except OSError as error:
            return [_explained(error)]
    return [Finding("port-6443", OK, f"{ADDRESS}:{PORT} can be bound, so workers' addresses can be")]


def _explained(error: OSError) -> Finding:
    if error.errno != errno.EADDRINUSE:
        return Finding(
            "port-6443",
            FAILED,
            f"cannot bind {ADDRESS}:{PORT}: {error.strerror}",
            "check the loopback interface (lo)",
        )
    holders = [f"{address}:{PORT}{_holder(inode)}" for address, inode in _wildcard_listeners()]
    return Finding(
        "port-6443",
        FAILED,
        f"used on every address by {', '.join(holders) or 'a process that this host does not show'}",
        "bind it to one address (k3s server: --https-listen-port, or bind-address in its configuration),"
        " or run the workers' sshd on another host",
    )


def _wildcard_listeners() -> list[tuple[str, str]]:
    """Return address and inode of each socket that listens on the port on all addresses (proc(5), /proc/net/tcp)."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).exists():
            continue
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == _LISTEN and int(port, 16) == PORT and address in _WILDCARDS:
                found.append((_WILDCARDS[address], fields[9]))
    return found


def _holder(inode: str) -> str:
    """Return the name and pid of the socket's process as text, or "" if it is not visible (requires root)."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(entry.readlink()) == f"socket:[{inode}]" for entry in (process / "fd").iterdir()):
                name = (process / "comm").read_text(encoding="utf-8").strip()
                return f" ({name}, pid {process.name})"
        except OSError:  # noqa: PERF203 - processes may exit meanwhile
            continue
    return ""
