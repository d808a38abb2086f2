"""The state directory, which survives restarts: its lock, the machine's id and the stop marker.

No content can crash the agent: a file that is truncated, empty, or writable by others is set aside as NAME.bad,
reported, and treated as absent. A crash at any moment leaves either the old file or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.adapters.storage.atomic_json import Stored, read_json, sync_directory, write_json
from agent.core.host.hardware import UNKNOWN, Hardware, from_json
from agent.errors import SettingsError, TransientError

SUN_PATH_BYTES = 108
"""linux/un.h: sockaddr_un.sun_path, including its terminating NUL."""
SOCKET_NAME_BYTES = 40
"""Space reserved for the name of a socket in `run_dir`."""
STALE_TEMPORARY_S = 3600
LOCK_NAME = "lock"
IDENTITY_NAME = "machine.json"
STOP_NAME = "stop.json"
GATEWAY_NAME = "gateway.json"
_MACHINE_ID = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class Identity:
    """The machine's id; `note` says why it may not survive a restart, or why it is new."""

    machine_id: str
    note: str | None = None


@dataclass(frozen=True)
class StopMarker:
    """Keeps the agent from starting again by itself, with the reason. `instance_id` is "" outside a cloud."""

    reason: str
    instance_id: str
    written_at_s: float
    """Wall clock, seconds since 1970."""
    hardware: Hardware = UNKNOWN
    """The machine that was told to leave."""


class StateDir:
    """The directory named by BETA9_STATE_DIR. One agent holds its lock; others may read it and write a stop marker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd: int | None = None
        self._identity: Identity | None = None

    @classmethod
    def open(cls, path: Path | str) -> StateDir:
        """Create the directory (0700) if it is missing.

        Raises: SettingsError if it can never work; TransientError if the disk is full or failing.
        """
        path = Path(path)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = path.stat()
            if found.st_uid != os.geteuid():
                raise SettingsError(
                    f"BETA9_STATE_DIR {path} belongs to uid {found.st_uid}, and the agent runs as uid "
                    f"{os.geteuid()}: chown it, or name another directory"
                )
            if stat.S_IMODE(found.st_mode) & 0o077:
                path.chmod(0o700)
        except (FileExistsError, NotADirectoryError) as error:
            raise SettingsError(f"BETA9_STATE_DIR {path} is not a directory: name another one") from error
        except PermissionError as error:
            raise SettingsError(
                f"BETA9_STATE_DIR {path} cannot be used ({error.strerror}): run as root, or name another one"
            ) from error
        except OSError as error:
            raise TransientError(
                f"state directory {path}: {error.strerror}; free space there, or name another"
            ) from error
        return cls(path)

    def try_lock(self) -> int | None:
        """Take the lock, for as long as this process lives. Return None on success.

        Otherwise return the pid of the agent that holds it (0 if unknown).
        Raises: TransientError if the lock file cannot be created.
        """
        if self._lock_fd is not None:
            return None
        try:
            fd = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise TransientError(f"lock {self.path / LOCK_NAME}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _pid_in(fd)
            os.close(fd)
            return holder
        with contextlib.suppress(OSError):  # on a full disk the pid is not written, but the lock holds
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = fd
        self._sweep()
        return None

    def unlock(self) -> None:
        """Release the lock."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def read_json(self, name: str) -> Stored:
        """Return what `write_json` last wrote under this name. Never raises."""
        return read_json(self.path / name)

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """Replace a file atomically and durably. Raises: TransientError; the old file is then unchanged."""
        # Somebody may have removed the directory under the running agent. If this fails, the write reports it.
        with contextlib.suppress(OSError):
            self.path.mkdir(mode=0o700, exist_ok=True)
        write_json(self.path / name, value)

    def machine_id(
        self, hardware: Hardware = UNKNOWN, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> Identity:
        """Return the machine's id: 8 hexadecimal characters, generated once and kept. Never raises.

        An id that another machine's hardware was kept with came here with a copied disk: this one gets its own.
        """
        if (
            self._identity is None
        ):  # once: an id that cannot be kept must at least not change while the agent runs
            self._identity = self._find_identity(hardware, random_bytes)
        return self._identity

    def _find_identity(self, hardware: Hardware, random_bytes: Callable[[int], bytes]) -> Identity:
        stored = self.read_json(IDENTITY_NAME)
        note = stored.note
        kept = kept_identity(stored.value)
        if kept is not None:
            machine_id, owner = kept
            if not owner.is_another(hardware):
                self._keep_hardware(machine_id, owner, hardware)
                return Identity(machine_id)
            note = f"this disk is a copy of another machine's, whose id is {machine_id}"
        elif stored.value is not None:
            note = f"{self.path / IDENTITY_NAME} contains no machine id"
        made = random_bytes(4).hex()
        try:
            self.write_json(IDENTITY_NAME, _identity_json(made, hardware))
        except TransientError as error:
            return Identity(made, f"machine id {made} will not survive a restart: {error}")
        return Identity(made, f"{note}; new machine id {made}" if note else None)

    def _keep_hardware(self, machine_id: str, owner: Hardware, hardware: Hardware) -> None:
        """Follow a machine whose cards are exchanged. What cannot be read this time stays as it was."""
        now = Hardware(hardware.uuid or owner.uuid, hardware.macs or owner.macs)
        if now != owner:
            with contextlib.suppress(TransientError):  # a full disk: the next start tries again
                self.write_json(IDENTITY_NAME, _identity_json(machine_id, now))

    def write_stop(self, reason: str, instance_id: str, wall_s: float, hardware: Hardware = UNKNOWN) -> None:
        """Keep the agent from running at later starts. Raises: TransientError."""
        marker = {"reason": reason, "instance_id": instance_id, "written_at_s": wall_s}
        self.write_json(STOP_NAME, {**marker, "hardware": hardware.as_json()})

    def read_stop(self) -> StopMarker | None:
        """Return the stop marker, or None. An unreadable one is set aside and does not count."""
        value = self.read_json(STOP_NAME).value
        if value is None:
            return None
        return StopMarker(
            str(value.get("reason", "")),
            str(value.get("instance_id", "")),
            _seconds(value.get("written_at_s")),
            from_json(value.get("hardware")),
        )

    def clear_stop(self) -> None:
        """Remove the stop marker. Raises: TransientError."""
        try:
            (self.path / STOP_NAME).unlink(missing_ok=True)
            sync_directory(self.path)
        except OSError as error:
            raise TransientError(f"stop marker in {self.path} not removed: {error.strerror}") from error

    def run_dir(self) -> Path:
        """Return a directory (0700) for unix sockets, with a path short enough for them.

        Raises: TransientError if it cannot be created.
        """
        run_dir = (self.path / "run").absolute()
        try:
            if len(os.fsencode(run_dir)) + 1 + SOCKET_NAME_BYTES < SUN_PATH_BYTES:
                run_dir.mkdir(mode=0o700, exist_ok=True)
                return run_dir
            return _short_directory(hashlib.sha256(os.fsencode(run_dir)).hexdigest()[:8])
        except OSError as error:
            raise TransientError(f"no directory for sockets, {run_dir}: {error.strerror}") from error

    def _sweep(self) -> None:
        """Remove the temporary files of writers that were killed."""
        for temporary in self.path.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - temporary.stat().st_mtime > STALE_TEMPORARY_S:
                    temporary.unlink()


def kept_identity(value: object) -> tuple[str, Hardware] | None:
    """Return the id in the identity file, and the hardware of its machine; None if there is none."""
    kept = value.get("machine_id") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kept, str) or not _MACHINE_ID.fullmatch(kept):
        return None
    return kept, from_json(value.get("hardware"))


def _identity_json(machine_id: str, hardware: Hardware) -> dict[str, Any]:
    if hardware == UNKNOWN:
        return {"machine_id": machine_id}
    return {"machine_id": machine_id, "hardware": hardware.as_json()}


def _seconds(written: object) -> float:
    """Return the stored seconds, or 0 if they are not a number."""
    try:
        return float(written) if isinstance(written, (int, float)) else 0.0
    except OverflowError:  # JSON's integers are unbounded
        return 0.0


def _pid_in(fd: int) -> int:
    try:
        return int(os.pread(fd, 32, 0))
    except (OSError, ValueError):
        return 0


def _short_directory(tag: str) -> Path:
    """Return the same short path at each start. A directory that another user owns is not used."""
    import tempfile

    for parent in (Path("/run"), Path(tempfile.gettempdir())):
        path = parent / f"beta9-worker-{tag}"
        with contextlib.suppress(OSError):
            path.mkdir(mode=0o700, exist_ok=True)
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                path.chmod(0o700)
                return path
    return Path(tempfile.mkdtemp(prefix="beta9-"))
