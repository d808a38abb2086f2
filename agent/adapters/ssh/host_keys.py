"""The host keys that ssh may meet: as pinned in the settings, or scanned and held against a fingerprint.

Nothing is ever trusted on first use. A scan only fetches what the fingerprint then proves.
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
"""Asked for one after another, until what is expected was seen. ssh-keyscan by itself asks for all at once, which a
machine that is still booting, or the network in front of it, does not always answer in full."""

HostKey = tuple[str, str]
"""Key type, and the key in base64."""


@dataclass(frozen=True)
class Scan:
    """What a server showed."""

    keys: tuple[HostKey, ...]
    whole: bool
    """Whether an answer came in time for every type that was asked for: else it may have other keys, too."""

    @property
    def fingerprints(self) -> dict[HostKey, str]:
        """Of each key, as ssh-keygen writes them (SHA256:...)."""
        return {key: _print(key) for key in self.keys}

    def proven(self, expected: Collection[str]) -> list[HostKey]:
        """The keys that have one of these fingerprints."""
        return [key for key, said in self.fingerprints.items() if said in expected]


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


def _proven(seen: Scan, expected: set[str], name: str) -> list[HostKey]:
    proven = seen.proven(expected)
    if proven:
        return proven
    shown = ", ".join(f"{said} ({key[0]})" for key, said in seen.fingerprints.items())
    if not seen.whole:
        raise TransientError(
            f"{name} showed {shown} and was too slow with its other host keys; tried again later"
        )
    raise HostKeyError(
        f"BETA9_SSH_HOST_KEY_FINGERPRINT: {name} showed {shown}, not {', '.join(sorted(expected))}; nothing was"
        " sent. If the server was set up anew, run 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub' on it (by"
        " its console) and give what that prints; else find out who answers there"
    )


def _scan(host: str, port: int, expected: Collection[str]) -> Scan:
    """As `scan`. Raises: TransientError where no key is to be had."""
    seen = scan(host, port, expected)
    if not seen.keys:
        raise TransientError(
            f"host keys of {_spelled(host, port)} not fetched ({_reason(host, port)}); tried again later. Check"
            " BETA9_SSH_HOST, BETA9_SSH_PORT and the way out of this machine"
        )
    return seen


def scan(host: str, port: int, expected: Collection[str]) -> Scan:
    """Fetch the server's public host keys until those with the `expected` fingerprints are among them.

    Raises: TransientError where it could not be asked.
    """
    seen = Scan((), whole=True)
    for kind in KEY_TYPES:
        began_s = time.monotonic()
        keys = _scanned(host, port, kind)
        in_time = bool(keys) or time.monotonic() - began_s < CONNECT_TIMEOUT_S
        seen = Scan((*seen.keys, *keys), seen.whole and in_time)
        nobody_answers = not (seen.keys or seen.whole)
        if nobody_answers or set(seen.fingerprints.values()).issuperset(expected):
            break
    return seen


def _scanned(host: str, port: int, kind: str) -> list[HostKey]:
    argv = ["ssh-keyscan", "-T", str(CONNECT_TIMEOUT_S), "-t", kind, "-p", str(port), "--", host]
    try:
        done = run(argv, 2 * CONNECT_TIMEOUT_S, ok_codes=(0, 1))
    except CommandFailed as error:
        if error.exit_code is ExitCode.UNUSABLE:  # no ssh-keyscan at all
            raise
        raise TransientError(
            f"host keys of {_spelled(host, port)} not fetched: {error}; tried again later"
        ) from error
    return _keys(done.stdout)


def _reason(host: str, port: int) -> str:
    """Ask once more, since ssh-keyscan says nothing about most failures."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
            return "something listens there and showed no SSH host key"
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
