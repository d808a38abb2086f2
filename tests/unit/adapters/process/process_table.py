"""What the kernel knows about processes, and waiting until that changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

GENEROUS_S = 30.0


def eventually(condition: Callable[[], bool]) -> bool:
    """Poll until the condition holds; return False if it does not within a generous deadline."""
    deadline_s = time.monotonic() + GENEROUS_S
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


def running(pid: int) -> bool:
    """Return whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def exists(pid: int) -> bool:
    """Return whether the kernel still lists the process, if only as a zombie."""
    return Path(f"/proc/{pid}").exists()


def descriptors() -> int:
    """Return how many file descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
