"""Whether workers' listeners on port 6443 have room on this host: one wildcard listener shuts them all out."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from findings import FAILED, OK, Finding

PORT = 6443
ADDRESS = "127.64.0.255"
"""In the workers' block, and no worker's: theirs end in 1 to 254."""
_LISTEN = "0A"
_WILDCARDS = {"00000000": "0.0.0.0", "0" * 32: "[::]"}  # noqa: S104 - to recognise, not to bind


def findings() -> list[Finding]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, PORT))
            probe.listen()
        except OSError as error:
            return [_explained(error)]
    return [Finding("port-6443", OK, f"{ADDRESS}:{PORT} could be bound, as a worker's address will be")]


def _explained(error: OSError) -> Finding:
    if error.errno != errno.EADDRINUSE:
        return Finding(
            "port-6443", FAILED, f"cannot bind {ADDRESS}:{PORT}: {error.strerror}", "see to loopback (lo)"
        )
    holders = [f"{address}:{PORT}{_holder(inode)}" for address, inode in _wildcard_listeners()]
    return Finding(
        "port-6443",
        FAILED,
        f"taken on every address by {', '.join(holders) or 'something that this host does not show'}",
        "bind it to one address (k3s server: --https-listen-port, or bind-address in its configuration),"
        " or run the workers' sshd on another host",
    )


def _wildcard_listeners() -> list[tuple[str, str]]:
    """Address and inode of each socket that listens on the port of all addresses (proc(5), /proc/net/tcp)."""
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
    """Which process has the socket, where this can be seen (as root)."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(entry.readlink()) == f"socket:[{inode}]" for entry in (process / "fd").iterdir()):
                name = (process / "comm").read_text(encoding="utf-8").strip()
                return f" ({name}, pid {process.name})"
        except OSError:  # noqa: PERF203 - processes end while they are looked at
            continue
    return ""
