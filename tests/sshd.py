"""The throw-away sshd with what only tests do to a server: other host keys, and signals to its sessions."""

from __future__ import annotations

import signal
import time

from agent.demo.sshd.throwaway import ThrowAwaySshd


class Sshd(ThrowAwaySshd):
    """A real sshd that a test can trouble while it runs."""

    def rotate_host_key(self, kind: str = "ed25519") -> None:
        """Identify by a new host key, and no longer by the old ones, from the next connection on."""
        self._host_keys = [self.make_key(f"host_key_{kind}_{time.monotonic_ns()}", kind)]
        self.reconfigure({})

    def add_host_key(self, kind: str = "ecdsa") -> None:
        """Identify by a further host key, too."""
        self._host_keys.append(self.make_key(f"host_key_{kind}_{time.monotonic_ns()}", kind))
        self.reconfigure({})

    def session_pids(self) -> tuple[int, ...]:
        """All processes that serve connections."""
        return tuple(pid for session in self.sessions() for pid in session.pids)

    def signal_sessions(self, number: int = signal.SIGKILL) -> None:
        """Signal every process of every connection."""
        for session in self.sessions():
            session.signal(number)
