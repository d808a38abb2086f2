"""Finds out whether a local TCP port is taken and which process holds it, for error messages."""

from __future__ import annotations

import errno
import socket


def is_taken(host: str, port: int) -> bool:
    """Return whether another process already listens there. Raises: OSError if no socket can be opened."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return False  # not an address of this machine: ssh's own error is clearer
    family, kind, protocol, _, address = addresses[0]
    with socket.socket(family, kind, protocol) as probe:
        # As ssh does: connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def holder_of(port: int) -> str:
    """Return a phrase that names the process listening on `port`, or "" if it cannot be found."""
    import psutil

    try:
        connections = psutil.net_connections("tcp")
        listening = [c for c in connections if c.status == "LISTEN" and getattr(c.laddr, "port", 0) == port]
        pids = [c.pid for c in listening if c.pid]
        if not pids:
            return f"port {port} is held by a process of another user" if listening else ""
        name = psutil.Process(pids[0]).name()
    except psutil.Error:
        return ""
    return f"port {port} is held by {name} (pid {pids[0]})"
