"""Whether a TCP port of this machine is taken, and by whom, for an error message."""

from __future__ import annotations

import errno
import socket


def is_taken(host: str, port: int) -> bool:
    """Whether somebody listens there already, so that nobody else could."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return False  # no address of this machine: ssh says so better
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as tried:
        # As ssh does: what is left of ended connections is no hindrance.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(address)
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def holder_of(port: int) -> str:
    """One phrase naming the process that listens on `port`, "" where that cannot be told."""
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
