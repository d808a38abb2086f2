"""Exit 1 if a program holds one of apt's locks, and say so in apt's words. Standard library only.

Usage: apt_locks.py ROOT (empty for this machine)
"""

from __future__ import annotations

import fcntl
import struct
import sys
from pathlib import Path

LOCKS = (
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/lock",
    "var/cache/apt/archives/lock",
    "var/lib/apt/lists/lock",
)
FLOCK = "hhqqi"
"""C's struct flock on 64-bit Linux: type, whence, start, length, pid."""


def holder(path: Path) -> int:
    """Return the pid of the process that holds a lock on the file, -1 if it cannot be seen, or 0."""
    request = struct.pack(FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0)
    with path.open("rb") as file:
        kind, _, _, _, pid = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, request))
    return 0 if kind == fcntl.F_UNLCK else int(pid) or -1


def main(root: str) -> int:
    for name in LOCKS:
        path = Path(root or "/") / name
        pid = holder(path) if path.exists() else 0
        if pid:
            command = Path(f"/proc/{pid}/comm")
            known = command.read_text().strip() if command.exists() else "?"
            sys.stderr.write(f"E: Could not get lock /{name}. It is held by process {pid} ({known})\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
