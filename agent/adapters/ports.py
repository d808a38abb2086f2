"""Who holds a TCP port of this machine, for an error message."""

from __future__ import annotations


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
