"""The doctor's own ssh connections. They use other local ports and another address than an agent that may be running.

They are made by the agent's adapter with the agent's command line, so that what works here also works there.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.ssh.tunnel import Tunnel
from agent.core.effects import StartLink
from agent.core.events import Event, LinkComplained, LinkEnded, LinkLoggedIn
from agent.core.tunnel import ssh_argv
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Purpose
from agent.settings import Settings

HOST = "127.0.0.1"
LOGIN_S = 9.0
"""Less than the limit of a check, so that the finding is about the login, not about the limit."""
COMPLAINT_S = 1.0


@dataclass
class Connected:
    """The progress of one ssh child process."""

    logged_in: bool = False
    session: bool = True
    """Whether it was asked to open a session channel."""
    ended: Fault | None = None
    complaint: Fault | None = None
    """Its last error message while it was running."""


class OwnTunnel:
    """Forwards to the gateway and to one reverse address, and the reverse forward of that address."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.port = 0
        """The local end of the forward to the gateway, after `connect`."""
        self._settings = settings
        self._directory = directory
        self._links: dict[Purpose, Connected] = {}
        self._changed = threading.Condition()
        self._tunnel: Tunnel | None = None
        self._generation = 0

    @property
    def probe_socket(self) -> Path:
        """The local end of the forward to the reverse address, by way of the gateway's host."""
        return self._directory / "probe.sock"

    def connect(self, endpoint: ssh_argv.Endpoint, address: str | None) -> Connected:
        """Log in and forward the gateway's port; return the progress after at most LOGIN_S."""
        self.port = _free_port()
        forwards = ssh_argv.Forwards(
            gateway=f"{HOST}:{self.port}:{self._settings.ssh_target}",
            probe_sockets=(str(self.probe_socket),) if address else (),
            addresses=(address,) if address else (),
            kubernetes=str(self._settings.k3s_api),
        )
        self._tunnel = Tunnel(lambda: endpoint, forwards, self._settings.policy, self._on_event)
        return self._log_in(Purpose.API, None)

    def open_reverse(self, address: str) -> Connected:
        """Ask sshd for the reverse address, on a separate connection. Call `connect` first."""
        return self._log_in(Purpose.REVERSE, address)

    def take_complaint(self, timeout_s: float = COMPLAINT_S) -> Fault | None:
        """Return the last error message of the connection with the forwards, and clear it.

        Waits for it, because ssh writes it while it closes the forwarded connection: the caller may be too early.
        """
        link = self._links.get(Purpose.API)
        if link is None:
            return None
        with self._changed:
            self._changed.wait_for(lambda: link.complaint is not None or link.ended is not None, timeout_s)
            complaint, link.complaint = link.complaint, None
        return complaint

    def end_of(self, purpose: Purpose) -> Fault | None:
        """Return why a connection ended, or None if it is still running."""
        return self._links[purpose].ended

    def close(self) -> None:
        """End both connections."""
        if self._tunnel is not None:
            self._tunnel.stop_all()

    def _log_in(self, purpose: Purpose, address: str | None) -> Connected:
        deadline_s = time.monotonic() + LOGIN_S
        link = self._try(purpose, address, session=True, deadline_s=deadline_s)
        if link.ended is None and link.logged_in and purpose is Purpose.API:
            # If sshd refuses the session channel, the child exits a round trip after the login.
            self._wait(link, min(deadline_s, time.monotonic() + 1.0), until_up=False)
        if link.ended is not None and link.ended.kind is FaultKind.SESSION:
            link = self._try(purpose, address, session=False, deadline_s=deadline_s)
        return link

    def _try(self, purpose: Purpose, address: str | None, *, session: bool, deadline_s: float) -> Connected:
        assert self._tunnel is not None  # noqa: S101 - set by `connect`
        self._generation += 1
        with self._changed:
            link = self._links[purpose] = Connected(session=session)
        self._tunnel.start(StartLink(purpose, self._generation, address, session))
        self._wait(link, deadline_s, until_up=True)
        return link

    def _wait(self, link: Connected, deadline_s: float, *, until_up: bool) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: link.ended is not None or (until_up and link.logged_in),
                timeout=max(0.0, deadline_s - time.monotonic()),
            )

    def _on_event(self, event: Event) -> None:
        if not isinstance(event, (LinkLoggedIn, LinkEnded, LinkComplained)):
            return
        with self._changed:
            link = self._links[event.purpose]
            if isinstance(event, LinkLoggedIn):
                link.logged_in = True
            elif isinstance(event, LinkComplained):
                link.complaint = event.fault
            else:
                link.ended = event.fault
            self._changed.notify_all()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
