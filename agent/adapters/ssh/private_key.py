"""A private copy of an SSH key, as ssh wants it: owned by us, mode 0600, unix line ends, with its final newline.

Kept in memory-backed storage where there is any, so that the key never reaches a disk on the way from a secret
store; else in the state directory. The same place each time: a copy that a killed agent left behind is
overwritten by the next one, and a rotated key takes the old one's place.
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

IN_MEMORY = (Path("/dev/shm"), Path("/run"))  # noqa: S108 - looked at before use, see _our_directory
NAME = "ssh_key"


@dataclass(frozen=True)
class PrivateKey:
    """A key file that ssh can use. `remove` when no child will be started with it any more."""

    path: Path
    certificate: Path | None = None
    """`-cert.pub` beside it, which ssh finds by its name."""

    def remove(self) -> None:
        """Remove the copy and the directory made for it. Never raises: somebody may have been faster."""
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
    """Write a private key where ssh can use it, replacing the previous copy at once.

    Args:
        text: the key; line ends are made unix ones, and the final newline is added (without it ssh says
            "error in libcrypto").
        directory: the agent's state directory; used where nothing memory-backed can be, and to tell the
            copies of two agents apart.
        original: the file the key came from; a user certificate beside it (`<original>-cert.pub`) is copied.
        in_memory: where memory-backed storage is looked for.

    Raises:
        SettingsError: the text is no private key that works without a passphrase.
        TransientError: it can be written nowhere (disk full, read-only).
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
    """The certificate beside a key file; it is renewed far more often than the key. Raises: SettingsError."""
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
    ours = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:8]
    for parent in in_memory:
        if _is_memory(parent):
            yield parent / f"beta9-worker-{os.geteuid()}-{ours}"
    yield directory / "ssh"


def _is_memory(path: Path) -> bool:
    """Whether a tmpfs or ramfs is mounted exactly there (proc(5), mountinfo: mount point is the fifth word)."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    words = [line.split() for line in lines]
    kinds = [w[w.index("-") + 1] for w in words if w[4] == str(path)]
    return bool(kinds) and kinds[-1] in {"tmpfs", "ramfs"}


def _write(place: Path, text: str, certificate: str | None) -> PrivateKey:
    _our_directory(place)
    key = place / NAME
    beside = place / f"{NAME}-cert.pub"
    # ssh reads the certificate after the key: no moment at which a new certificate stands beside an old key
    # matters more than the other way round; both only fail one login.
    _replace(key, text.replace("\r\n", "\n").strip() + "\n")
    if certificate is None:
        beside.unlink(missing_ok=True)
        return PrivateKey(key)
    _replace(beside, certificate)
    return PrivateKey(key, beside)


def _our_directory(place: Path) -> None:
    """Make a directory of mode 0700, or use ours from before.

    Raises:
        OSError: it cannot be made, or another user put something there first (/dev/shm is everybody's).
    """
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise FileExistsError(0, "belongs to somebody else")
    if stat.S_IMODE(found.st_mode) != 0o700:
        place.chmod(0o700)


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # made with mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
