"""The machine's place in its tailnet, as last heard."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.host.facts import DaemonState, TailnetFacts


@dataclass(frozen=True)
class Tailnet:
    """The machine's place in its tailnet, as its tailscaled says."""

    facts: TailnetFacts | None = None
    """As last read; the gateway's peer as of `peers_at_s`."""
    seen_at_s: float | None = None
    peers_at_s: float | None = None
    """When the peers were last asked for."""
    looking: bool = False
    """tailscaled is being asked."""
    look_at_s: float = 0.0
    failures: int = 0
    """Requests in a row that tailscaled did not answer."""
    name: str = ""
    """Full name in the tailnet, as last known."""
    address: str = ""
    missing: DaemonState | None = None
    """Which login was missing when tailscaled last said so; None since it runs."""
    joining: bool = False
    join_at_s: float = 0.0
    joins: int = 0
    """Logins attempted since tailscaled last ran."""
    join_error: str | None = None
