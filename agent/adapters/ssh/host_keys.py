"""The pinned host keys as ssh wants them: a known_hosts file. Nothing is ever trusted on first use."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from agent.errors import SettingsError, TransientError
from agent.settings import SecretRef, Settings

NAME = "known_hosts"


def known_hosts_file(settings: Settings, resolve: Callable[[SecretRef], str], directory: Path) -> Path | None:
    """Write the lines of BETA9_SSH_KNOWN_HOSTS (0600) into `directory` and return the path.

    They are resolved again each time (host names may be hashed, lines may be @cert-authority).
    None: only fingerprints are pinned, which ssh is given on its command line (core/tunnel/host_key_pins.py).

    Raises:
        SettingsError: nothing is pinned.
        TransientError: the file cannot be written.
        RejectedError: raised by `resolve`.
    """
    if settings.ssh_known_hosts is not None:
        path = directory / NAME
        _write(path, resolve(settings.ssh_known_hosts))
        return path
    if not settings.ssh_host_key_fingerprint:
        raise SettingsError(
            "BETA9_SSH_KNOWN_HOSTS: not set, and an unknown host key is never accepted; set it, or"
            " BETA9_SSH_HOST_KEY_FINGERPRINT"
        )
    return None


def _write(path: Path, content: str) -> None:
    """Replace the file atomically: an ssh child that is starting reads the old one or the new one.

    An unchanged file is not written again, so that a disk that has filled up does not prevent a reconnect.
    """
    with contextlib.suppress(OSError, UnicodeError):  # missing or damaged: it is written below
        if path.read_text(encoding="utf-8") == content:
            return
    try:
        # mkstemp: a unique name, because two children may start at the same time, and mode 0600.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{NAME}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        Path(temporary).replace(path)
    except OSError as error:
        raise TransientError(f"{path} not written: {error.strerror}; free space there") from error
