"""A gateway's host with a real sshd and relay, and machines whose real ssh clients reach nothing but that sshd's port.

The gateway's host is one network namespace, the machines share another. What a machine's SOCKS leads to is an address
in theirs; each machine has its own, so that one can be told from another.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.adapters.process.run import Child, run, spawn
from agent.demo.sshd.throwaway import ThrowAwaySshd
from tests import ROOT
from tests.integration.netns import Place, Wire, why_not, wire
from tests.integration.polling import wait_for
from tests.integration.ssh_client import Ssh

SSH_PORT = 2222
RELAY_UID = 54321
HAIRPIN = "198.18.0.2"
DIAL_S = 30.0
"""How long a dial may take before the test counts it as a hang."""


def missing() -> str | None:
    """Return why the relay cannot be tried on this host, or None."""
    programs = [name for name in ("setpriv", "iptables-restore", "ssh", "sshd") if shutil.which(name) is None]
    return why_not() or (f"not on this host: {', '.join(programs)}" if programs else None)


class RelayProcess:
    """`beta9-worker relay` in the gateway's host, as a user of its own that has CAP_NET_ADMIN alone."""

    def __init__(self, place: Place, *options: str) -> None:
        self._place = place
        self.options = options
        self._child: Child | None = None
        self._path = os.environ["PATH"]
        self.lines: list[str] = []

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def find_first(self, programs: Path) -> None:
        """Have it find the programs in this directory before all others."""
        self._path = f"{programs}:{self._path}"

    def command(self, *options: str) -> list[str]:
        """Return the command line that runs the relay's command as its user."""
        # Where root alone may read the interpreter (a test environment), the relay may read files, too.
        readable = (ROOT.stat().st_mode & 0o5) == 0o5 and not sys.executable.startswith("/root")
        caps = "+net_admin" if readable and _readable(sys.executable) else "+net_admin,+dac_read_search"
        return [
            *self._place.prefix,
            *("setpriv", "--reuid", str(RELAY_UID), "--regid", str(RELAY_UID), "--clear-groups"),
            *(
                "--inh-caps",
                f"-all,{caps}",
                "--ambient-caps",
                f"-all,{caps}",
                "--bounding-set",
                f"-all,{caps}",
            ),
            *(sys.executable, "-m", "agent", "relay", *self.options, *options),
        ]

    def call(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the relay's command with these options to its end."""
        return subprocess.run(
            self.command(*options),
            cwd=ROOT,
            env={**os.environ, "PATH": self._path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self) -> RelayProcess:
        """Start it and wait until it relays."""
        before = len(self.lines)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": self._path}
        self._child = child = spawn(self.command(), name="relay", on_line=self.lines.append, env=environment)
        wait_for(
            "the relay", lambda: "relay_started" in "".join(self.lines[before:]) or child.code is not None
        )
        assert child.code is None, self.lines
        return self

    def events(self, name: str) -> list[str]:
        """Return the log lines of this event."""
        return [line for line in self.lines if f'"{name}"' in line]

    def kill(self) -> None:
        """End it at once, as the kernel's out-of-memory killer does."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._child is not None
        self._child.wait(10)

    def stop(self) -> int | None:
        """End it as its service manager does; return the exit code."""
        if self._child is None or self._child.code is not None:
            return None
        self._child.stop(10)
        return self._child.code


def _readable(path: str) -> bool:
    return all(parent.stat().st_mode & 0o1 for parent in Path(path).resolve().parents)


class Machine:
    """A machine in the any-port form: a real ssh client, with its own address and what its SOCKS leads to."""

    def __init__(self, site: Site, address: str) -> None:
        self.site, self.address = site, address
        self._ssh: Ssh | None = None
        self._forward = address, "1080"

    @property
    def pid(self) -> int:
        assert self._ssh is not None
        return self._ssh.process.pid

    def connect(self) -> Machine:
        """Open the tunnel, and wait until its SOCKS listens."""
        forward = ("-R", f"{self.address}:1080")
        options = (f"PermitRemoteOpen={HAIRPIN}:*", "ServerAliveInterval=4", "ServerAliveCountMax=2")
        self._ssh = Ssh(self.site.sshd, *forward, options=options, prefix=self.site.net.near.prefix)
        self.site.stack.callback(self._ssh.end)
        wait_for(f"{self.address}:1080 listens", lambda: self.site.listens(self.address, 1080))
        return self

    def disconnect(self) -> None:
        """End the tunnel."""
        assert self._ssh is not None
        self._ssh.end()
        wait_for(f"{self.address}:1080 is closed", lambda: not self.site.listens(self.address, 1080))


@dataclass
class Site:
    """The two namespaces, the sshd, the relay."""

    directory: Path
    net: Wire
    sshd: ThrowAwaySshd
    relay: RelayProcess
    stack: ExitStack

    @property
    def gateway(self) -> Place:
        """The gateway's host."""
        return self.net.far

    def machine(self, address: str) -> Machine:
        """Return a machine that is connected."""
        return Machine(self, address).connect()

    def listens(self, address: str, port: int) -> bool:
        """Return whether something on the gateway's host listens on exactly this address."""
        return f" {address}:{port} " in self.gateway.run("ss", "-Hltn")

    def dial(self, address: str, port: int, *, place: Place | None = None) -> socket.socket:
        """Connect as the gateway does. Raises: ConnectionRefusedError, TimeoutError."""
        with (place or self.gateway).inside():
            return socket.create_connection((address, port), DIAL_S)

    def refused(self, address: str, port: int, *, place: Place | None = None) -> float:
        """Dial and return after how many seconds that was refused. Fails if it was not."""
        began_s = time.monotonic()
        try:
            self.dial(address, port, place=place).close()
        except ConnectionRefusedError:
            return time.monotonic() - began_s
        raise AssertionError(f"{address}:{port} answered")

    def ask(self, address: str, port: int, text: bytes = b"ping", **options: Place) -> bytes:
        """Dial, send, say that this was all, and return everything that comes back."""
        with self.dial(address, port, **options) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            return read_all(connection)


def use_nft(lab: Site) -> None:
    """Have the relay use nftables, also on a kernel that lacks its queue."""
    lab.relay.options = ("--packet-filter", "nft")
    rules = lab.relay.call("--dry-run").stdout
    tried = run(
        [*lab.gateway.prefix, "nft", "--check", "-f", "-"], timeout_s=20, input=rules, ok_codes=(0, 1)
    )
    if tried.code:
        # Where the relay's user may look for programs, unlike the test's own directory.
        programs = Path(lab.stack.enter_context(tempfile.TemporaryDirectory()))
        programs.chmod(0o755)
        shutil.copy(Path(__file__).with_name("nft_without_queue.sh"), programs / "nft")
        lab.relay.find_first(programs)


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side has ended."""
    received = bytearray()
    while chunk := connection.recv(1 << 16):
        received += chunk
    return bytes(received)


@contextmanager
def server(
    place: Place, address: str, port: int, serve: Callable[[socket.socket], object]
) -> Iterator[socket.socket]:
    """Serve each connection on a thread of its own."""
    with place.inside():
        listener = socket.create_server((address, port), backlog=4096)

    def handle(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            serve(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def saying(words: bytes) -> Callable[[socket.socket], None]:
    """Return a handler that greets with these words and sends back what it gets, until that ends."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(words)
        while chunk := connection.recv(1 << 16):
            connection.sendall(chunk)

    return serve


@contextmanager
def site(directory: Path, *relay_options: str) -> Iterator[Site]:
    """Set up the gateway's host and the machines' network; the relay is not started yet."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with ExitStack() as stack:
        net = stack.enter_context(wire())
        net.near.run("ip", "addr", "add", f"{HAIRPIN}/32", "dev", "lo")
        # Who may listen where is sshd's matter, and tried elsewhere.
        options = {"PermitListen": "127.*:*", "ForceCommand": "internal-sftp"}
        sshd = ThrowAwaySshd(
            directory / "sshd", port=SSH_PORT, host=net.far.address, prefix=net.far.prefix, options=options
        )
        sshd.authorize(f"restrict,port-forwarding {sshd.public_key()}")
        stack.enter_context(sshd)
        relay = RelayProcess(net.far, *relay_options)
        stack.callback(relay.stop)
        yield Site(directory, net, sshd, relay, stack)
