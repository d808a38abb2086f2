"""Small JSON files that survive crashes, full disks and tampering.

A file that is truncated, empty, or writable by others is set aside as NAME.bad, reported, and treated as absent. After
a crash there is either the old file or the new one, complete.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import TransientError

FILE_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Stored:
    """A file's content (None: nothing usable), and a note about it for a person."""

    value: dict[str, Any] | None
    note: str | None = None


def read_json(path: Path) -> Stored:
    """Return what `write_json` last wrote. Never raises; sets an untrustworthy file aside as NAME.bad."""
    try:
        problem, value = _read(path)
    except FileNotFoundError:
        return Stored(None)
    except OSError as error:
        if error.errno not in (
            errno.ELOOP,
            errno.EACCES,
            errno.ENXIO,
        ):  # a link, another user's file, a socket
            return Stored(None, f"{path} cannot be read ({error.strerror}); continuing without it")
        problem, value = f"cannot be opened ({error.strerror})", None
    if problem is None:
        return Stored(value)
    try:
        path.replace(path.with_name(path.name + ".bad"))
    except OSError as error:
        return Stored(None, f"{path} {problem}, and cannot be set aside ({error.strerror}); not used")
    return Stored(None, f"{path} {problem}; set aside as {path.name}.bad")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a file atomically and durably (mode 0600): it is on the disk when this returns.

    Raises: TransientError if the disk is full or failing; the old file is then unchanged.
    """
    text = json.dumps(value, sort_keys=True) + "\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise TransientError(f"state file {path} not written: {error.strerror}; free space there") from error


def sync_directory(path: Path) -> None:
    """Flush the directory itself to the disk: otherwise a power failure may undo a rename. Raises: OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(path: Path) -> tuple[str | None, dict[str, Any] | None]:
    """Return (its fault, None) or (None, its content). Raises: OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        problem = _reason_to_distrust(os.fstat(fd))
        if problem is not None:
            return problem, None
        with open(fd, "rb", closefd=False) as file:
            content = file.read(FILE_LIMIT_BYTES + 1)
    finally:
        os.close(fd)
    if not content.strip():
        return "is empty", None
    if len(content) > FILE_LIMIT_BYTES:
        return f"is larger than {FILE_LIMIT_BYTES} bytes", None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return "is damaged: not JSON", None
    return (None, value) if isinstance(value, dict) else ("is damaged: not a JSON object", None)


def _reason_to_distrust(found: os.stat_result) -> str | None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_uid != os.geteuid():
        return f"belongs to uid {found.st_uid}, not to the agent's {os.geteuid()}"
    return f"has mode {mode:04o}, so other users can access it" if mode & 0o077 else None
