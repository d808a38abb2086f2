"""The host keys that ssh accepts: pinned in the settings, or scanned and compared with a pinned fingerprint.

Nothing is ever trusted on first use: a scanned key counts only if its fingerprint is a pinned one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.process.run import CommandFailed, run
from agent.core.tunnel.key_formats import fingerprint
from agent.errors import ExitCode, HostKeyError, SettingsError, TransientError
from agent.settings import SecretRef, Settings

NAME = "known_hosts"
CONNECT_TIMEOUT_S = 10
KEY_TYPES = ("ed25519", "ecdsa", "rsa")
"""Requested one after another until the expected key was seen. ssh-keyscan by itself requests all at once, which a
machine that is still booting, or the network in front of it, does not always answer completely."""

HostKey = tuple[str, str]
"""Key type, and the key in base64."""


@dataclass(frozen=True)
class Scan:
    """The host keys that a server showed."""

    keys: tuple[HostKey, ...]
    whole: bool
    """Whether every key type was answered in time; otherwise the server may have further keys."""

    @property
    def fingerprints(self) -> dict[HostKey, str]:
        """Each key's fingerprint, as ssh-keygen prints it (SHA256:...)."""
        return {key: _fingerprint(key) for key in self.keys}

    def proven(self, expected: Collection[str]) -> list[HostKey]:
        """Return the keys that have one of these fingerprints."""
        return [key for key, found in self.fingerprints.items() if found in expected]


def known_hosts_file(settings: Settings, resolve: Callable[[SecretRef], str], directory: Path) -> Path:
    """Write `known_hosts` (0600) into `directory` and return its path.

    With BETA9_SSH_KNOWN_HOSTS its lines are resolved again each time and written unchanged (host names may be hashed,
    lines may be @cert-authority). Otherwise the server is scanned, and the keys that match
    BETA9_SSH_HOST_KEY_FINGERPRINT are written; the file of an earlier call is reused if it has all of these keys.

    Raises:
        SettingsError: no scanned key has the fingerprint, or nothing is pinned.
        TransientError: the server cannot be reached, or the file cannot be written.
        RejectedError: raised by `resolve`.
    """
    path = directory / NAME
    if settings.ssh_known_hosts is not None:
        _write(path, resolve(settings.ssh_known_hosts))
        return path
    if settings.ssh_host is None or not settings.ssh_host_key_fingerprint:
        raise SettingsError(
            "BETA9_SSH_KNOWN_HOSTS: not set, and an unknown host key is never accepted; set it, or"
            " BETA9_SSH_HOST_KEY_FINGERPRINT"
        )
    expected = set(settings.ssh_host_key_fingerprint.split(","))
    name = _lookup_name(settings.ssh_host, settings.ssh_port)
    if {_fingerprint(key) for key in _read_earlier(path, name)} != expected:
        keys = _verified(_scan(settings.ssh_host, settings.ssh_port, expected), expected, name)
        _write(path, "".join(f"{name} {kind} {key}\n" for kind, key in keys))
    return path


def _verified(seen: Scan, expected: set[str], name: str) -> list[HostKey]:
    proven = seen.proven(expected)
    if proven:
        return proven
    shown = ", ".join(f"{found} ({key[0]})" for key, found in seen.fingerprints.items())
    if not seen.whole:
        raise TransientError(
            f"{name} showed {shown} and was too slow to show its other host keys; will retry"
        )
    raise HostKeyError(
        f"BETA9_SSH_HOST_KEY_FINGERPRINT: {name} showed {shown}, not {', '.join(sorted(expected))}; nothing was"
        " sent. If the server was reinstalled, run 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub' on its console"
        " and set the fingerprint that it prints; otherwise find out which server answers there"
    )


def _scan(host: str, port: int, expected: Collection[str]) -> Scan:
    """Call `scan`. Raises: TransientError if the server shows no key at all."""
    seen = scan(host, port, expected)
    if not seen.keys:
        raise TransientError(
            f"host keys of {_lookup_name(host, port)} not fetched ({_reason(host, port)}); will retry. Check"
            " BETA9_SSH_HOST, BETA9_SSH_PORT and this machine's outbound access"
        )
    return seen


def scan(host: str, port: int, expected: Collection[str]) -> Scan:
    """Fetch the server's public host keys until those with the `expected` fingerprints are among them.

    Raises: TransientError if the scan itself fails.
    """
    seen = Scan((), whole=True)
    for kind in KEY_TYPES:
        began_s = time.monotonic()
        keys = _scan_one(host, port, kind)
        in_time = bool(keys) or time.monotonic() - began_s < CONNECT_TIMEOUT_S
        seen = Scan((*seen.keys, *keys), seen.whole and in_time)
        is_unreachable = not (seen.keys or seen.whole)
        if is_unreachable or set(seen.fingerprints.values()).issuperset(expected):
            break
    return seen


def _scan_one(host: str, port: int, kind: str) -> list[HostKey]:
    argv = ["ssh-keyscan", "-T", str(CONNECT_TIMEOUT_S), "-t", kind, "-p", str(port), "--", host]
    try:
        completed = run(argv, 2 * CONNECT_TIMEOUT_S, ok_codes=(0, 1))
    except CommandFailed as error:
        if error.exit_code is ExitCode.UNUSABLE:  # ssh-keyscan is not installed
            raise
        raise TransientError(
            f"host keys of {_lookup_name(host, port)} not fetched: {error}; will retry"
        ) from error
    return _parse(completed.stdout)


def _reason(host: str, port: int) -> str:
    """Connect once more to find the reason, because ssh-keyscan hides most errors."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
            return "something listens there but shows no SSH host key"
    except OSError as error:
        return str(error.strerror or error)


def _parse(lines: str) -> list[HostKey]:
    """Return the keys in known_hosts lines, without comments and marked lines."""
    rows = [line.split() for line in lines.splitlines()]
    return [
        (row[1], row[2]) for row in rows if len(row) >= 3 and row[0][0] not in "#@" and fingerprint(row[2])
    ]


def _fingerprint(key: HostKey) -> str:
    return fingerprint(key[1]) or ""


def _read_earlier(path: Path, name: str) -> list[HostKey]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return []
    return _parse("".join(line for line in text.splitlines(keepends=True) if line.startswith(f"{name} ")))


def _write(path: Path, text: str) -> None:
    """Replace the file atomically: an ssh child that is starting reads the old one or the new one.

    An unchanged file is not written again, so that a disk that has filled up does not prevent a reconnect.
    """
    content = text.replace("\r\n", "\n").strip() + "\n"
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


def _lookup_name(host: str, port: int) -> str:
    """Return a host the way ssh looks it up (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    return host if port == 22 else f"[{host}]:{port}"
