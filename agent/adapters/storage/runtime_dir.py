"""Where sockets and private copies go: in the state directory, or elsewhere while its disk takes nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

from agent.adapters.storage.state_dir import StateDir
from agent.errors import TransientError

ROOM_BYTES = 16 * 1024
"""What the files there take together, generously: known_hosts, and the key where it has no better place."""


def private_directory(state: StateDir) -> Path:
    """A directory (0700) of our own that can be written to. Raises: TransientError where there is none."""
    try:
        wanted = state.run_dir()
        _try_room(wanted)
    except (TransientError, OSError) as error:
        # The state disk is full or read-only: sockets and host keys need a directory, not that disk.
        return _temporary_directory(error)
    return wanted


def _try_room(directory: Path) -> None:
    """Raises: OSError where nothing can be written there."""
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(ROOM_BYTES))
        file.flush()


def _temporary_directory(why: Exception) -> Path:
    failures = [str(why)]
    for parent in ("/run", "/dev/shm", tempfile.gettempdir()):  # noqa: S108 - mkdtemp's names are its own
        try:
            made = Path(tempfile.mkdtemp(prefix="beta9-worker-", dir=parent))
            _try_room(made)
        except OSError as error:  # noqa: PERF203 - three places at most
            failures.append(f"{parent}: {error.strerror}")
        else:
            return made
    raise TransientError(f"no directory for sockets ({'; '.join(failures)}); free space")
