"""The tailnet's part of a running agent: queries and logins, the gateway's address, and what is kept for a restart."""

from __future__ import annotations

import contextlib

from agent.adapters.secrets.credentials import Credentials
from agent.adapters.storage.state_dir import GATEWAY_NAME, StateDir
from agent.adapters.tailscale.local_client import TailscaleDaemon
from agent.core.config import Connection
from agent.core.effects import JoinTailnet, QueryTailscaled
from agent.core.events import Event, TailnetJoinTried, TailscaledQueried
from agent.core.host.facts import DaemonState, TailnetFacts
from agent.core.machine_api.wire import Outcome
from agent.errors import AgentError, TransientError
from agent.runtime.supervisor import Executor, Executors
from agent.settings import Settings


class TailnetLogin:
    """Talks to tailscaled for the core. Unused unless the gateway is reached through a tailnet."""

    def __init__(self, settings: Settings, state_dir: StateDir, credentials: Credentials) -> None:
        self._settings = settings
        self._state_dir = state_dir
        self._credentials = credentials
        self._daemon = TailscaleDaemon(settings.tailscale_socket, settings.gateway_host)
        self._peer_address = ""
        """The gateway's address, as tailscaled last reported it."""
        self._kept_config: bool | None = None

    def executors(self) -> Executors:
        """Return the executors of queries and logins."""
        return {
            QueryTailscaled: Executor(self._query, lambda c, e: TailscaledQueried(_failed(e), c.with_peers)),
            JoinTailnet: Executor(self._join, lambda _, e: TailnetJoinTried(f"not tried: {e}")),
        }

    def gateway_address(self) -> str:
        """Return the address at which to dial the gateway: tailscaled's for the peer, because DNS may not know it.

        (A container keeps the resolv.conf that it started with; the machine may have joined the tailnet later.)
        """
        return self._peer_address or self._settings.gateway_host

    def gateway_config(self) -> bool | None:
        """Return whether the gateway's last registration reply held its configuration; None if unknown.

        The machine's name in a tailnet depends on it. Keeping it saves each start a second registration with another
        name, which takes 5 s on a gateway that sends no configuration.
        """
        if self._settings.connection is not Connection.TAILSCALE:
            return None
        kept = (self._state_dir.read_json(GATEWAY_NAME).value or {}).get("config")
        self._kept_config = kept if isinstance(kept, bool) else None
        return self._kept_config

    def remember(self, outcome: Outcome) -> None:
        """Keep what a registration showed for the next start."""
        is_new = outcome.gateway_config not in {None, self._kept_config}
        if self._settings.connection is Connection.TAILSCALE and is_new:
            self._kept_config = outcome.gateway_config
            # With a full disk the next start needs one more registration, nothing worse.
            with contextlib.suppress(TransientError):
                self._state_dir.write_json(GATEWAY_NAME, {"config": outcome.gateway_config})

    def _query(self, effect: QueryTailscaled) -> Event:
        facts = self._daemon.look(effect.timeout_s, with_peers=effect.with_peers)
        if effect.with_peers and facts.state is not DaemonState.ABSENT:
            self._peer_address = facts.peer.address if facts.peer is not None else ""
        return TailscaledQueried(facts, effect.with_peers)

    def _join(self, effect: JoinTailnet) -> Event:
        try:
            key = self._credentials.tailscale_auth()
            self._daemon.join(self._settings.tailscale_url, key, effect.timeout_s)
        except AgentError as error:
            return TailnetJoinTried(str(error))
        return TailnetJoinTried()


def _failed(error: Exception) -> TailnetFacts:
    return TailnetFacts(DaemonState.ABSENT, f"not queried: {error}")
