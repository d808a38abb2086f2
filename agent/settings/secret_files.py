"""Read a small text file that contains a secret, and explain in one sentence why one cannot be used."""

from __future__ import annotations

import stat
from pathlib import Path

from agent.core.text.pasted import decoded
from agent.errors import SettingsError

LIMIT_BYTES = 64 * 1024
"""Far more than any token, key or list of host keys. A wrong path (an image, a disk) must not fill memory."""


def read_secret_file(path: Path) -> str:
    """Return the file's text, unchanged but for byte order marks and other invisible characters, which are dropped.

    Raises:
        SettingsError: it is missing, not a regular file, not readable, empty, too large, or not text.
            The message begins with the path and never quotes the content.
    """
    try:
        status = path.stat()
        # Checked before opening, because opening a named pipe would block until there is a writer.
        if not stat.S_ISREG(status.st_mode):
            raise SettingsError(f"{path} is not a regular file; name one that can be read repeatedly")
        if status.st_size > LIMIT_BYTES:
            raise SettingsError(
                f"{path} has {status.st_size} bytes, more than a secret may have ({LIMIT_BYTES}); is it the right file?"
            )
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}; check the path and its permissions"
        ) from error
    try:
        text = decoded(content)
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path} contains bytes that are not UTF-8 text; is it the right file?"
        ) from error
    if "\0" in text:
        raise SettingsError(f"{path} contains zero bytes; save it again, as UTF-8 text")
    if not text.strip():
        raise SettingsError(f"{path} is empty; put the secret into it")
    return text


def open_to_others(path: Path) -> str | None:
    """Return the file's mode, such as "0644", if all users of this machine can read it, else None."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
    return f"{mode:04o}" if mode & stat.S_IROTH else None
