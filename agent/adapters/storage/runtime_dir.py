"""The directory for sockets and private copies: in the state directory, or elsewhere if its disk is full."""

from __future__ import annotations

import tempfile
from pathlib import Path

from agent.adapters.storage.state_dir import StateDir
from agent.errors import TransientError

NEEDED_BYTES = 16 * 1024
"""A generous estimate of all files there: known_hosts, and the key if it has no better place."""


def private_directory(state: StateDir) -> Path:
    """Return a private (0700), writable directory. Raises: TransientError if there is none."""
    try:
        run_dir = state.run_dir()
        _check_space(run_dir)
    except (TransientError, OSError) as error:
        # The state disk is full or read-only; sockets and host keys may as well be elsewhere.
        return _temporary_directory(error)
    return run_dir


def _check_space(directory: Path) -> None:
    """Raise OSError if nothing can be written there."""
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(NEEDED_BYTES))
        file.flush()


def _temporary_directory(error: Exception) -> Path:
    failures = [str(error)]
    for parent in ("/run", "/dev/shm", tempfile.gettempdir()):  # noqa: S108 - mkdtemp creates a new directory
        try:
            made = Path(tempfile.mkdtemp(prefix="beta9-worker-", dir=parent))
            _check_space(made)
        except OSError as failure:  # noqa: PERF203 - three places at most
            failures.append(f"{parent}: {failure.strerror}")
        else:
            return made
    raise TransientError(f"no directory for sockets ({'; '.join(failures)}); free space")
