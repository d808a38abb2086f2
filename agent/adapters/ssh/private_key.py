"""A private copy of an SSH key in the form that ssh requires: own user, mode 0600, lines as ssh reads them.

It is kept in memory-backed storage if there is any, so that a key from a secret store never reaches a disk; otherwise
in the state directory. The place is the same each time: the copy left behind by a killed agent is overwritten by the
next one, and a rotated key replaces the old one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.process.run import CommandFailed, run
from agent.core.text.describe import shape
from agent.core.text.pasted import decoded
from agent.core.tunnel.key_formats import private_key
from agent.errors import SettingsError, TransientError

IN_MEMORY = (Path("/dev/shm"), Path("/run"))  # noqa: S108 - checked before use, see _make_own_directory
NAME = "ssh_key"
KEYGEN_S = 10.0


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
        text: the key, in whatever form it was pasted (core/tunnel/key_formats.py).
        directory: the agent's state directory; used without memory-backed storage, and to keep the copies of two
            agents apart.
        original: the file that the key came from; a user certificate beside it (`<original>-cert.pub`) is copied, too.
        in_memory: candidates for memory-backed storage.

    Raises:
        SettingsError: the text is not a private key that works without a passphrase.
        TransientError: no place can be written to (full or read-only).
    """
    certificate = user_certificate(original)
    failures: list[str] = []
    try:
        key = private_key(text)
        for place in _places(directory, in_memory):
            try:
                return _write(place, key, certificate)
            except OSError as error:  # noqa: PERF203 - three places at most
                failures.append(f"{place}: {error.strerror}")
    except ValueError as error:
        raise SettingsError(f"BETA9_SSH_KEY: {original or shape(text)} {error}") from error
    raise TransientError(
        f"no place for the private copy of the SSH key ({'; '.join(failures)}); free space there"
    )


def check_private_key(text: str, original: Path | None = None) -> None:
    """Check that ssh can use a key, on a copy that is removed again. Raises: as `private_key_copy`."""
    with tempfile.TemporaryDirectory(prefix="b9key-") as directory:
        private_key_copy(text, Path(directory), original).remove()


def _refuse_unless_usable(copy: Path) -> None:
    """Ask ssh-keygen whether ssh can use the key: only it knows which keys this version of OpenSSH reads.

    Where it cannot run, ssh itself will say. Raises: ValueError.
    """
    try:
        run(["ssh-keygen", "-y", "-P", "", "-f", str(copy)], KEYGEN_S)
    except (CommandFailed, TransientError) as error:
        reason = re.search(r'Load key "[^"]*": (.*)', getattr(error, "stderr", ""))
        if reason:
            raise ValueError(
                f"is not a key that this machine's ssh can use ({reason[1]}); make one with"
                " 'ssh-keygen -t ed25519 -N \"\" -f FILE'"
            ) from error


def user_certificate(original: Path | None) -> str | None:
    """Return the user certificate beside a key file, or None if there is none. Raises: SettingsError."""
    if original is None:
        return None
    try:
        return decoded(Path(f"{original}-cert.pub").read_bytes()).strip() + "\n"
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
    _replace(key, text, _refuse_unless_usable)
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


def _replace(path: Path, text: str, check: Callable[[Path], None] = lambda _: None) -> None:
    descriptor, temporary = tempfile.mkstemp(
        prefix=f".{path.name}.", dir=path.parent
    )  # created with mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        check(Path(temporary))
        Path(temporary).replace(path)
    except (OSError, ValueError):
        Path(temporary).unlink(missing_ok=True)
        raise
