"""A private copy of an SSH key in the form that ssh requires: own user, mode 0600, unix line ends, final newline.

It is kept in memory-backed storage if there is any, so that a key from a secret store never reaches a disk; otherwise
in the state directory. The place is the same each time: the copy left behind by a killed agent is overwritten by the
next one, and a rotated key replaces the old one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.core.text.describe import shape
from agent.core.tunnel.key_formats import key_problem
from agent.errors import SettingsError, TransientError

IN_MEMORY = (Path("/dev/shm"), Path("/run"))  # noqa: S108 - checked before use, see _make_own_directory
NAME = "ssh_key"


@dataclass(frozen=True)
class PrivateKey:
    """A key file that ssh can use. Call `remove` once no more children will be started with it."""

    path: Path
    certificate: Path | None = None
    """The `-cert.pub` file beside it, which ssh finds by its name."""

    def remove(self) -> None:
        """Remove the copy and its directory. Never raises: they may already be gone."""
        for file in (self.path, self.certificate):
            with contextlib.suppress(OSError):
                if file:
                    file.unlink()
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    def __fspath__(self) -> str:
        return str(self.path)


def private_key_copy(
    text: str, directory: Path, original: Path | None = None, in_memory: tuple[Path, ...] = IN_MEMORY
) -> PrivateKey:
    """Write a private key where ssh can use it, atomically replacing the previous copy.

    Args:
        text: the key. Line ends become unix ones, and a missing final newline is added (without it ssh fails with
            "error in libcrypto").
        directory: the agent's state directory; used without memory-backed storage, and to keep the copies of two
            agents apart.
        original: the file that the key came from; a user certificate beside it (`<original>-cert.pub`) is copied, too.
        in_memory: candidates for memory-backed storage.

    Raises:
        SettingsError: the text is not a private key that works without a passphrase.
        TransientError: no place can be written to (full or read-only).
    """
    problem = key_problem(text)
    if problem:
        raise SettingsError(f"BETA9_SSH_KEY: {original or shape(text)} {problem}")
    certificate = user_certificate(original)
    failures: list[str] = []
    for place in _places(directory, in_memory):
        try:
            return _write(place, text, certificate)
        except OSError as error:  # noqa: PERF203 - three places at most
            failures.append(f"{place}: {error.strerror}")
    raise TransientError(
        f"no place for the private copy of the SSH key ({'; '.join(failures)}); free space there"
    )


def user_certificate(original: Path | None) -> str | None:
    """Return the user certificate beside a key file, or None if there is none. Raises: SettingsError."""
    if original is None:
        return None
    try:
        return Path(f"{original}-cert.pub").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise SettingsError(
            f"BETA9_SSH_KEY_FILE: the certificate {original}-cert.pub cannot be read ({error}); correct or remove it"
        ) from error


def _places(directory: Path, in_memory: tuple[Path, ...]) -> Iterator[Path]:
    agent_tag = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:8]
    for parent in in_memory:
        if _is_memory(parent):
            yield parent / f"beta9-worker-{os.geteuid()}-{agent_tag}"
    yield directory / "ssh"


def _is_memory(path: Path) -> bool:
    """Return whether `path` is the mount point of a tmpfs or ramfs (proc(5), mountinfo: fifth field)."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    rows = [line.split() for line in lines]
    kinds = [row[row.index("-") + 1] for row in rows if row[4] == str(path)]
    return bool(kinds) and kinds[-1] in {"tmpfs", "ramfs"}


def _write(place: Path, text: str, certificate: str | None) -> PrivateKey:
    _make_own_directory(place)
    key = place / NAME
    beside = place / f"{NAME}-cert.pub"
    # The two files cannot be replaced together. A child that reads one old and one new file fails one login, in
    # either order.
    _replace(key, text.replace("\r\n", "\n").strip() + "\n")
    if certificate is None:
        beside.unlink(missing_ok=True)
        return PrivateKey(key)
    _replace(beside, certificate)
    return PrivateKey(key, beside)


def _make_own_directory(place: Path) -> None:
    """Create a directory of mode 0700, or reuse this user's earlier one.

    Raises:
        OSError: it cannot be created, or another user owns what is there (/dev/shm is world-writable).
    """
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise FileExistsError(0, "belongs to another user")
    if stat.S_IMODE(found.st_mode) != 0o700:
        place.chmod(0o700)


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(
        prefix=f".{path.name}.", dir=path.parent
    )  # created with mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
