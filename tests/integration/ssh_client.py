"""The real ssh client, with the options that the agent uses, for tests of the server's side."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import pytest

from agent.demo.sshd.throwaway import ThrowAwaySshd

DEADLINE_S = 60.0
"""Generous: only a failing test waits that long."""
RECORDED = Path(__file__).parents[1] / "unit" / "data" / "ssh_stderr.json"

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: creates an account, or reads others' sockets"
)


def recorded(case: str) -> str:
    """Return the recorded stderr of ssh for a case."""
    texts = {entry["case"]: entry["stderr"] for entry in json.loads(RECORDED.read_text(encoding="utf-8"))}
    return str(texts[case])


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll until `condition()` is true."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {DEADLINE_S:g} s for {what}"
        time.sleep(0.02)


class Ssh:
    """One ssh process with its stdin kept open. It requests the sftp subsystem unless `session` is False.

    `prefix` is put before its command, such as `ip netns exec NAME`.
    """

    def __init__(
        self,
        server: ThrowAwaySshd,
        *forwards: str,
        key: Path | None = None,
        known_hosts: Path | None = None,
        user: str | None = None,
        options: Sequence[str] = (),
        session: bool = True,
        command: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        settings = (
            *options,
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={known_hosts or server.known_hosts_path}",
            "GlobalKnownHostsFile=/dev/null",
            "UpdateHostKeys=no",
            "ExitOnForwardFailure=yes",
            "ConnectTimeout=10",
        )
        destination = f"{user or server.user}@{server.host}"
        tail = (
            [destination, *command]
            if command
            else ["-s", destination, "sftp"]
            if session
            else ["-N", destination]
        )
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            [
                *prefix,
                *("ssh", "-F", "none", "-T", "-i", str(key or server.key_path), "-p", str(server.port)),
                *(part for setting in settings for part in ("-o", setting)),
                *forwards,
                *tail,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    def stderr(self) -> str:
        """Return its stderr so far, with Unix line endings."""
        self._stderr.seek(0)
        return self._stderr.read().decode().replace("\r\n", "\n")

    def failed(self) -> str:
        """Wait until it fails by itself (exit code 255); return its stderr."""
        code = self.process.wait(DEADLINE_S)
        assert code == 255, f"exit code {code}: {self.stderr()}"
        return self.stderr()

    def running(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        """Kill it if it is still running."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()
        self._stderr.close()

    def __enter__(self) -> Ssh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def reverse_forward(address: str, port: int) -> tuple[str, str]:
    """Return ssh's arguments for serving local `port` at `address`:6443 on the server."""
    return "-R", f"{address}:6443:127.0.0.1:{port}"


def refusal(server: ThrowAwaySshd, *forwards: str, **options: object) -> str:
    """Connect, expecting ssh to fail by itself; return its stderr."""
    with Ssh(server, *forwards, **options) as client:  # type: ignore[arg-type]
        return client.failed()


@contextmanager
def listener(greeting: bytes) -> Iterator[int]:
    """Run a TCP server on loopback that sends `greeting` to each client and hangs up. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(greeting)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def greeting_from(address: str, port: int) -> bytes | None:
    """Return what a TCP server sends first: b"" if it closes at once, None if nothing listens there."""
    try:
        with socket.create_connection((address, port), timeout=DEADLINE_S) as connection:
            try:
                return connection.recv(100)
            except ConnectionResetError:
                return b""
    except ConnectionRefusedError:
        return None
