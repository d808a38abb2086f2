"""Try logins with real ssh, at the running sshd or at a second one with the same configuration, for one connection.

The second sshd serves a connection on loopback by `sshd -i`, as inetd and systemd's sockets start it. It listens on
nothing itself, reads the very files that the real one reads, and says in a log of its own why it refuses.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

TIMEOUT_S = 20
"""For one login on loopback; PAM modules may be slow."""
_OPTIONS = (
    "BatchMode=yes",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "PreferredAuthentications=publickey",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "GlobalKnownHostsFile=/dev/null",
    "ExitOnForwardFailure=yes",
    f"ConnectTimeout={TIMEOUT_S}",
)


def missing() -> str | None:
    """Return why no login can be tried here, or None."""
    if os.geteuid() != 0:
        return "only root can start a second sshd: run this as root"
    if not shutil.which("ssh") or not shutil.which("ssh-keygen"):
        return "ssh is not installed: install openssh-client (openssh-clients)"
    return None


@dataclass
class Place:
    """Where ssh connects to."""

    port: int
    host: str = "127.0.0.1"
    log: str = ""
    """What a second sshd has logged; complete once it has ended."""


@contextmanager
def second_sshd(sshd: str, config: Path, own_key_line: str = "") -> Iterator[Place]:
    """Serve one connection with this configuration; accept the key of `own_key_line` besides those configured."""
    with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0)) as listener:
        log = Path(directory, "log")
        log.touch()
        # Options on the command line win over those of the file, except for those in a matching block.
        options = ["LogLevel=DEBUG1", "MaxAuthTries=1000", "PidFile=none", "UseDNS=no"]
        if own_key_line:
            own = Path(directory, "own_key")
            own.write_text(own_key_line + "\n", encoding="utf-8")
            options += [
                f"AuthorizedKeysCommand={shutil.which('cat')} {own}",
                "AuthorizedKeysCommandUser=root",
            ]
        words = [word for option in options for word in ("-o", option)]
        listener.settimeout(TIMEOUT_S)
        server = _Server([sshd, "-i", "-e", "-f", str(config), *words], listener, log)
        place = Place(listener.getsockname()[1])
        try:
            yield place
        finally:
            server.end()
            place.log = log.read_text(encoding="utf-8", errors="replace")


class _Server:
    """Accepts one connection in the background and hands it to a new sshd."""

    def __init__(self, command: Sequence[str], listener: socket.socket, log: Path) -> None:
        self._command, self._listener, self._log = command, listener, log
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # nobody came
            return
        # Not `-E LOG`: with -i, OpenSSH 9.9 then logs into the connection.
        with connection, self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=connection.fileno(), stdout=connection.fileno(), stderr=log
            )

    def end(self) -> None:
        # Wakes the thread up if nobody has connected.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        if self._process is None:
            return
        try:
            self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def ssh(place: Place, user: str, keys: Sequence[Path], *arguments: str) -> list[str]:
    """Return the command line of one ssh that tells what it does."""
    options = [word for option in _OPTIONS for word in ("-o", option)]
    # Without any, ssh would try the caller's own keys.
    identities = [word for key in keys or [Path("none")] for word in ("-i", str(key))]
    return [
        "ssh",
        "-F",
        "none",
        "-T",
        "-v",
        "-p",
        str(place.port),
        "-l",
        user,
        *identities,
        *options,
        *arguments,
    ]


def make_key(path: Path) -> str:
    """Create a key pair without passphrase. Return the public half."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "check.py", "-f", str(path)]
    subprocess.run(command, check=True, timeout=TIMEOUT_S)
    return path.with_suffix(".pub").read_text(encoding="utf-8").strip()


@dataclass(frozen=True)
class Answer:
    """What sshd answers to the offer of several public keys."""

    accepted: frozenset[Path]
    came_to_keys: bool
    """Whether the connection came so far that a key could be offered."""
    complaint: str


def offer(place: Place, user: str, public_keys: Sequence[Path]) -> Answer:
    """Ask sshd which keys it would let in.

    It says so before it asks for a signature, so that the private halves are not needed and no login takes place.
    """
    command = ssh(place, user, public_keys, "-N", place.host)
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S * 2, check=False
    )
    text = result.stderr.decode(errors="replace").replace("\r\n", "\n")
    accepted = {
        key
        for key in public_keys
        if re.search(rf"Server accepts key: {re.escape(str(key))}( |$)", text, re.MULTILINE)
    }
    return Answer(frozenset(accepted), "Authentications that can continue" in text, _complaint(text))


def session(place: Place, user: str, key: Path, reverse: str = "", *, channel: bool = True) -> str:
    """Log in as a worker does: open a session (not without `channel`) and listen on `reverse` (ADDRESS:PORT), if given.

    Return what went wrong, or "".
    """
    with socket.create_server(("127.0.0.1", 0)) as far_end, tempfile.TemporaryFile() as stderr:
        forward = ["-R", f"{reverse}:127.0.0.1:{far_end.getsockname()[1]}"] if reverse else []
        last = ["-s", place.host, "sftp"] if channel else ["-N", place.host]
        command = ssh(place, user, [key], *forward, *last)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr)
        stdin = cast("IO[bytes]", process.stdin)
        try:
            problem = _said(
                f"remote forward success for: listen {reverse}" if reverse else _IN, process, stderr
            )
            if reverse and not problem:
                problem = _not_listening(reverse)
            stdin.close()
            if channel and process.wait(TIMEOUT_S) and not problem:
                problem = _complaint(_text(stderr))
        except subprocess.TimeoutExpired:
            problem = f"the session did not end within {TIMEOUT_S} s"
        finally:
            process.kill()
            process.wait()
        return problem


_IN = "Authenticated to "


def _said(text: str, process: subprocess.Popen[bytes], stderr: IO[bytes]) -> str:
    """Wait until ssh says this. Return what went wrong, or ""."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while text not in _text(stderr):
        if process.poll() is not None:
            return "" if text in _text(stderr) else _complaint(_text(stderr))
        if time.monotonic() > deadline_s:
            return f"no answer within {TIMEOUT_S} s"
        time.sleep(0.02)
    return ""


def _not_listening(place: str) -> str:
    """Look for the forward: a server may bind another address without saying so. Return what is wrong, or ""."""
    address, _, port = place.rpartition(":")
    # proc(5), /proc/net/tcp: addresses in the host's byte order; 0A is a listener.
    wanted = f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}:{int(port):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    if any(fields[1] == wanted and fields[3] == "0A" for fields in lines):
        return ""
    return f"sshd accepted the forward, but nothing listens on {place}"


def answers(host: str, port: int) -> bool:
    """Return whether something listens there."""
    try:
        socket.create_connection((host, port), timeout=TIMEOUT_S).close()
    except OSError:
        return False
    return True


def dial(place: Place, user: str, key: Path, target: str, request: bytes) -> tuple[str, bytes]:
    """Send `request` to the target through a forward, as the agent does.

    Return what went wrong, or "", and the beginning of the answer.
    """
    with tempfile.TemporaryFile() as stderr:
        command = ssh(place, user, [key], "-W", target, place.host)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
        stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        try:
            stdin.write(request)
            stdin.flush()
            received = _first_bytes(stdout)
        except OSError:
            received = b""
        finally:
            process.kill()
            process.communicate()
        text = _text(stderr)
        failed = "open failed" in text or _IN not in text
        return (_complaint(text) if failed else ""), received


def _first_bytes(stream: IO[bytes]) -> bytes:
    ready, _, _ = select.select([stream], [], [], TIMEOUT_S)
    return os.read(stream.fileno(), 4096) if ready else b""


def _text(stderr: IO[bytes]) -> str:
    stderr.seek(0)
    return stderr.read().decode(errors="replace").replace("\r\n", "\n")


def _complaint(text: str) -> str:
    """Return what ssh itself says, without its debugging output."""
    noise = (
        "debug",
        "OpenSSH_",
        "Warning: Permanently added",
        "Authenticated to",
        "Transferred:",
        "Bytes per second",
    )
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(noise)]
    return "; ".join(lines)[:300] or "ssh failed without a word"
