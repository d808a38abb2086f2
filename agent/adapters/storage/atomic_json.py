"""Small JSON files that survive crashes, full disks and strangers.

A file that is cut off, empty, or could have been written by somebody else is set aside as NAME.bad, said, and
treated as absent. A crash at any moment leaves the old file or the new one, whole.
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
    """What a file held (None: nothing usable), and what a person should know about it."""

    value: dict[str, Any] | None
    note: str | None = None


def read_json(path: Path) -> Stored:
    """What `write_json` last wrote. Never raises; a file that cannot be trusted is set aside as NAME.bad."""
    try:
        problem, value = _read(path)
    except FileNotFoundError:
        return Stored(None)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EACCES, errno.ENXIO):  # a link, a stranger's, a socket
            return Stored(None, f"{path} cannot be read ({error.strerror}); going on without it")
        problem, value = f"cannot be opened ({error.strerror})", None
    if problem is None:
        return Stored(value)
    try:
        path.replace(path.with_name(path.name + ".bad"))
    except OSError as error:
        return Stored(None, f"{path} {problem}, and cannot be set aside ({error.strerror}); not used")
    return Stored(None, f"{path} {problem}; set aside as {path.name}.bad")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a file at once and for good (mode 0600): it is on the disk when this returns.

    Raises: TransientError where the disk is full or failing; the old file is then still there.
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
    """Put the directory itself on the disk: without this a rename may be lost with the power. Raises:
    OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(path: Path) -> tuple[str | None, dict[str, Any] | None]:
    """(what is wrong with it, None) or (None, what it holds). Raises: OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        problem = _distrust(os.fstat(fd))
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
    return (None, value) if isinstance(value, dict) else ("is damaged: no JSON object", None)


def _distrust(found: os.stat_result) -> str | None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        return "is no regular file"
    if found.st_uid != os.geteuid():
        return f"belongs to uid {found.st_uid}, not to the agent's {os.geteuid()}"
    return f"has mode {mode:04o}, others can get at it" if mode & 0o077 else None
