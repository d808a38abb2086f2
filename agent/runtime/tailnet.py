"""The tailnet's part of a running agent: what tailscaled is asked, where the gateway is dialled, what is kept of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from agent.adapters.secrets.credentials import Credentials
from agent.adapters.storage.state_dir import GATEWAY_NAME, StateDir
from agent.adapters.tailscale.local_client import TailscaleDaemon
from agent.core.config import Connection
from agent.core.effects import JoinTailnet, QueryTailscaled
from agent.core.events import Event, TailnetJoinTried, TailscaledQueried
from agent.core.host.facts import DaemonState, TailnetFacts
from agent.core.machine_api.wire import Outcome
from agent.core.state import AgentState
from agent.errors import AgentError, TransientError
from agent.runtime.supervisor import Executor
from agent.settings import Settings


@dataclass
class TailnetLogin:
    """Idle unless the gateway is reached through a tailnet."""

    settings: Settings
    state: StateDir
    credentials: Credentials
    worker: Callable[[], AgentState]
    """What the agent knows now."""

    def __post_init__(self) -> None:
        self.daemon = TailscaleDaemon(self.settings.tailscale_socket, self.settings.gateway_host)

    def executors(self) -> dict[type, Executor]:
        """How its commands are carried out."""
        return {
            QueryTailscaled: Executor(self._look, lambda c, e: TailscaledQueried(_unasked(e), c.with_peers)),
            JoinTailnet: Executor(self._join, lambda _, e: TailnetJoinTried(f"not tried: {e}")),
        }

    def gateway_address(self) -> str:
        """Where the gateway is dialled: a peer's address as tailscaled knows it, since a resolver may not.

        (A container keeps the resolv.conf of its start; tailscaled may have joined later.)
        """
        facts = self.worker().tailnet.facts
        peer = facts.peer if facts is not None else None
        return peer.address if peer is not None and peer.address else self.settings.gateway_host

    def gateway_config(self) -> bool | None:
        """Whether the gateway sent its configuration last time: by that a machine in a tailnet is named.

        Another name at each start would cost a registration more, 5 s on a gateway that sends none.
        """
        if self.settings.connection is not Connection.TAILSCALE:
            return None
        kept = (self.state.read_json(GATEWAY_NAME).value or {}).get("config")
        return kept if isinstance(kept, bool) else None

    def remember(self, outcome: Outcome) -> None:
        """Keep for the next start what a registration showed."""
        known = self.worker().registration.gateway_config
        if self.settings.connection is Connection.TAILSCALE and outcome.gateway_config not in {None, known}:
            # A full disk costs the next start a registration, no more.
            with contextlib.suppress(TransientError):
                self.state.write_json(GATEWAY_NAME, {"config": outcome.gateway_config})

    def _look(self, command: QueryTailscaled) -> Event:
        facts = self.daemon.look(command.timeout_s, with_peers=command.with_peers)
        return TailscaledQueried(facts, command.with_peers)

    def _join(self, command: JoinTailnet) -> Event:
        try:
            key = self.credentials.tailscale_auth()
            self.daemon.join(self.settings.tailscale_url, key, command.timeout_s)
        except AgentError as error:
            return TailnetJoinTried(str(error))
        return TailnetJoinTried()


def _unasked(error: Exception) -> TailnetFacts:
    return TailnetFacts(DaemonState.ABSENT, f"not asked: {error}")
