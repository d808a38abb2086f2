"""The real ssh client, started as the agent would start it, for tests of the server's side."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from agent.demo.sshd.throwaway import ThrowAwaySshd

DEADLINE_S = 60.0
"""Generous: only ever reached by a test that fails."""
RECORDED = Path(__file__).parents[1] / "unit" / "data" / "ssh_stderr.json"


def recorded(case: str) -> str:
    """What ssh printed in that case when the texts were recorded."""
    texts = {entry["case"]: entry["stderr"] for entry in json.loads(RECORDED.read_text(encoding="utf-8"))}
    return str(texts[case])


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Poll until `holds()` is true."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, f"waited {DEADLINE_S:g} s for {what}"
        time.sleep(0.02)


class Ssh:
    """One ssh process with its input held open. It asks for the sftp subsystem unless `session` is False."""

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
        where = f"{user or server.user}@{server.host}"
        tail = [where, *command] if command else ["-s", where, "sftp"] if session else ["-N", where]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            [
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
        """What it has printed until now, with Unix line ends."""
        self._stderr.seek(0)
        return self._stderr.read().decode().replace("\r\n", "\n")

    def failed(self) -> str:
        """Wait until it gives up by itself; return its stderr."""
        code = self.process.wait(DEADLINE_S)
        assert code == 255, f"exit code {code}: {self.stderr()}"
        return self.stderr()

    def running(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        """Kill it, if it hasn't ended."""
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


def refusal(server: ThrowAwaySshd, *forwards: str, **how: object) -> str:
    """Connect, expecting ssh to give up by itself; return its stderr."""
    with Ssh(server, *forwards, **how) as client:  # type: ignore[arg-type]
        return client.failed()


@contextmanager
def listener(says: bytes) -> Iterator[int]:
    """A TCP server on loopback that says `says` to everybody and closes. Gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(says)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def dialled(address: str, port: int) -> bytes | None:
    """What the place says, b"" if it closes at once, None if nobody listens there."""
    try:
        with socket.create_connection((address, port), timeout=DEADLINE_S) as connection:
            try:
                return connection.recv(100)
            except ConnectionResetError:
                return b""
    except ConnectionRefusedError:
        return None
