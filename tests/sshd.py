"""The throw-away sshd with operations that only tests need: changing host keys, and signalling its sessions."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from agent.demo.sshd.throwaway import ThrowAwaySshd


class Sshd(ThrowAwaySshd):
    """A real sshd that a test can disturb while it runs."""

    def rotate_host_key(self, kind: str = "ed25519") -> None:
        """Replace the host keys by a new one, from the next connection on."""
        self.use_host_key(self.make_key(f"host_key_{kind}_{time.monotonic_ns()}", kind))

    def use_host_key(self, path: Path) -> None:
        """Have this as the only host key, from the next connection on."""
        self._host_keys = [path]
        self.reconfigure({})

    def add_host_key(self, kind: str = "ecdsa") -> None:
        """Add another host key."""
        self._host_keys.append(self.make_key(f"host_key_{kind}_{time.monotonic_ns()}", kind))
        self.reconfigure({})

    def session_pids(self) -> tuple[int, ...]:
        """Return the pids of all processes that serve connections."""
        return tuple(pid for session in self.sessions() for pid in session.pids)

    def signal_sessions(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to every process of every connection."""
        for session in self.sessions():
            session.signal(number)
