"""The host keys that ssh may meet: as pinned in the settings, or scanned and held against a fingerprint.

Nothing is ever trusted on first use. A scan only fetches what the fingerprint then proves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from agent.adapters.process import CommandFailed, run
from agent.core.keytext import fingerprint
from agent.errors import Exit, HostKeyError, SettingsError, TransientError
from agent.settings import SecretRef, Settings

NAME = "known_hosts"
CONNECT_TIMEOUT_S = 5
PATIENT_TIMEOUT_S = 30
"""For a server that showed only keys that nobody expects: one that is still booting may be slow with the others."""
KEY_TYPES = 4
"""ssh-keyscan asks for one key type at a time, each with one of the time-outs above."""

HostKey = tuple[str, str]
"""Key type, and the key in base64."""


def known_hosts_file(settings: Settings, resolve: Callable[[SecretRef], str], directory: Path) -> Path:
    """Write `known_hosts` (0600) into `directory` and return its path.

    With BETA9_SSH_KNOWN_HOSTS the lines are written as given (host names may be hashed, lines may be
    @cert-authority), read anew each time. Else the server's keys are scanned, and those that match
    BETA9_SSH_HOST_KEY_FINGERPRINT are written; what an earlier call wrote is used while it matches all of them.

    Raises:
        SettingsError: no scanned key has the fingerprint, or nothing is pinned.
        TransientError: the server cannot be reached, or the file cannot be written.
        RejectedError: by `resolve`.
    """
    path = directory / NAME
    if settings.ssh_known_hosts is not None:
        _write(path, resolve(settings.ssh_known_hosts))
        return path
    if settings.ssh_host is None or not settings.ssh_host_key_fingerprint:
        raise SettingsError(
            "BETA9_SSH_KNOWN_HOSTS: not set, and an unknown host key is never accepted; give it, or"
            " BETA9_SSH_HOST_KEY_FINGERPRINT"
        )
    expected = set(settings.ssh_host_key_fingerprint.split(","))
    name = _spelled(settings.ssh_host, settings.ssh_port)
    if {_print(key) for key in _written_before(path, name)} != expected:
        keys = _proven(_scan(settings.ssh_host, settings.ssh_port, expected), expected, name)
        _write(path, "".join(f"{name} {kind} {key}\n" for kind, key in keys))
    return path


def _proven(scanned: list[HostKey], expected: set[str], name: str) -> list[HostKey]:
    proven = [key for key in scanned if _print(key) in expected]
    if not proven:
        seen = ", ".join(f"{_print(key)} ({key[0]})" for key in scanned)
        raise HostKeyError(
            f"BETA9_SSH_HOST_KEY_FINGERPRINT: {name} showed {seen}, not {', '.join(sorted(expected))}; nothing was"
            " sent. If the server was set up anew, run 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub' on it (by"
            " its console) and give what that prints; else find out who answers there"
        )
    return proven


def _scan(host: str, port: int, expected: Collection[str]) -> list[HostKey]:
    """As `scan`. Raises: TransientError where none is to be had."""
    keys = scan(host, port, expected)
    if not keys:
        raise TransientError(
            f"host keys of {_spelled(host, port)} not fetched ({_reason(host, port)}); tried again later. Check"
            " BETA9_SSH_HOST, BETA9_SSH_PORT and the way out of this machine"
        )
    return keys


def scan(host: str, port: int, expected: Collection[str]) -> list[HostKey]:
    """Fetch the server's public host keys, of every type it has; none where it does not answer.

    ssh-keyscan leaves out what does not come in time. So where no key has an `expected` fingerprint, it gets more time
    before anybody is accused.
    Raises: TransientError where it could not be asked.
    """
    keys = _scanned(host, port, CONNECT_TIMEOUT_S)
    if keys and not any(_print(key) in expected for key in keys):
        keys = _scanned(host, port, PATIENT_TIMEOUT_S)
    return keys


def _scanned(host: str, port: int, timeout_s: int) -> list[HostKey]:
    argv = ["ssh-keyscan", "-T", str(timeout_s), "-p", str(port), "--", host]
    try:
        done = run(argv, KEY_TYPES * timeout_s, ok_codes=(0, 1))
    except CommandFailed as error:
        if error.exit_code is Exit.UNUSABLE:  # no ssh-keyscan at all
            raise
        raise TransientError(
            f"host keys of {_spelled(host, port)} not fetched: {error}; tried again later"
        ) from error
    return _keys(done.stdout)


def _reason(host: str, port: int) -> str:
    """Ask once more, since ssh-keyscan says nothing about most failures."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
            return "something listens there, but not an SSH server with a known kind of key"
    except OSError as error:
        return str(error.strerror or error)


def _keys(lines: str) -> list[HostKey]:
    """Take the keys out of known_hosts lines, leaving out what is no key (comments, markers)."""
    words = [line.split() for line in lines.splitlines()]
    return [(w[1], w[2]) for w in words if len(w) >= 3 and w[0][0] not in "#@" and fingerprint(w[2])]


def _print(key: HostKey) -> str:
    return fingerprint(key[1]) or ""


def _written_before(path: Path, name: str) -> list[HostKey]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return []
    return _keys("".join(line for line in text.splitlines(keepends=True) if line.startswith(f"{name} ")))


def _write(path: Path, text: str) -> None:
    """Replace the file at once: an ssh child that starts meanwhile reads the old one or the new.

    What is there already is not written again: a disk that is full by now must not end the connecting.
    """
    wanted = text.replace("\r\n", "\n").strip() + "\n"
    not_there_or_not_ours = contextlib.suppress(OSError, UnicodeError)
    with not_there_or_not_ours:
        if path.read_text(encoding="utf-8") == wanted:
            return
    try:
        # A name of its own and mode 0600 (mkstemp): two children may be about to start at the same time.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{NAME}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(wanted)
        Path(temporary).replace(path)
    except OSError as error:
        raise TransientError(f"{path} not written: {error.strerror}; free space there") from error


def _spelled(host: str, port: int) -> str:
    """Write a host as ssh looks it up (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    return host if port == 22 else f"[{host}]:{port}"
