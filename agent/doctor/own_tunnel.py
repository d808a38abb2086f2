"""The doctor's own ssh connections, beside those of an agent that may run: other local ports, another address.

They are made by the agent's own adapter, with the agent's own command line, so that what works here works there.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
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
"""Less than a check may take, so that this says why."""
COMPLAINT_S = 1.0


@dataclass
class Connected:
    """How far one ssh child came."""

    logged_in: bool = False
    session: bool = True
    ended: Fault | None = None
    said: Fault | None = None
    """What it complains of while it lives."""


@dataclass
class OwnTunnel:
    """A forward to the gateway and to one reverse address, and the reverse forward of that address."""

    settings: Settings
    directory: Path
    port: int = 0
    """The local end of the forward to the gateway, once `connect` was called."""
    _links: dict[Purpose, Connected] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _tunnel: Tunnel | None = None
    _generation: int = 0

    @property
    def probe_socket(self) -> Path:
        """Leads to the reverse address, over the gateway's side."""
        return self.directory / "probe.sock"

    def connect(self, endpoint: ssh_argv.Endpoint, address: str | None) -> Connected:
        """Log in, with the forward to the gateway; how far it came within LOGIN_S."""
        self.port = _free_port()
        forwards = ssh_argv.Forwards(
            gateway=f"{HOST}:{self.port}:{self.settings.ssh_target}",
            probe_sockets=(str(self.probe_socket),) if address else (),
            addresses=(address,) if address else (),
            kubernetes=str(self.settings.k3s_api),
        )
        self._tunnel = Tunnel(lambda: endpoint, forwards, self.settings.policy, self._note)
        return self._log_in(Purpose.API, None)

    def open_reverse(self, address: str) -> Connected:
        """Ask sshd for the reverse address, on a connection of its own. Only after `connect`."""
        return self._log_in(Purpose.REVERSE, address)

    def complaint(self, patience_s: float = COMPLAINT_S) -> Fault | None:
        """What the connection that carries the forwards complained of since the last time, and forget it.

        ssh writes it while it closes the forwarded connection: who sees the one may be ahead of the other.
        """
        link = self._links.get(Purpose.API)
        if link is None:
            return None
        with self._changed:
            self._changed.wait_for(lambda: link.said is not None or link.ended is not None, patience_s)
            said, link.said = link.said, None
        return said

    def end_of(self, purpose: Purpose) -> Fault | None:
        """Why a connection ended, None while it lives."""
        return self._links[purpose].ended

    def close(self) -> None:
        """End both connections."""
        if self._tunnel is not None:
            self._tunnel.stop_all()

    def _log_in(self, purpose: Purpose, address: str | None) -> Connected:
        deadline_s = time.monotonic() + LOGIN_S
        link = self._try(purpose, address, session=True, deadline_s=deadline_s)
        if link.ended is None and link.logged_in and purpose is Purpose.API:
            # A refused session ends the child a round trip after the login.
            self._wait(link, min(deadline_s, time.monotonic() + 1.0), until_up=False)
        if link.ended is not None and link.ended.kind is FaultKind.SESSION:
            link = self._try(purpose, address, session=False, deadline_s=deadline_s)
        return link

    def _try(self, purpose: Purpose, address: str | None, *, session: bool, deadline_s: float) -> Connected:
        assert self._tunnel is not None  # noqa: S101 - `connect` comes first
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

    def _note(self, event: Event) -> None:
        if not isinstance(event, (LinkLoggedIn, LinkEnded, LinkComplained)):
            return
        with self._changed:
            link = self._links[event.purpose]
            if isinstance(event, LinkLoggedIn):
                link.logged_in = True
            elif isinstance(event, LinkComplained):
                link.said = event.fault
            else:
                link.ended = event.fault
            self._changed.notify_all()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
