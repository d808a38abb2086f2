"""Keepalives of one agent that the gateway has accepted."""

from __future__ import annotations

from tests.integration.agent_process import AgentProcess
from tests.integration.polling import wait_for


def accepted_keepalives(agent: AgentProcess) -> int:
    """Return how many keepalives the gateway has accepted since the agent started."""
    return int(agent.status()["counters"]["keepalives"]["ok"])


def wait_for_keepalives(agent: AgentProcess, count: int = 2) -> None:
    """Wait until the gateway has accepted `count` more keepalives."""
    before = accepted_keepalives(agent)
    wait_for(f"{count} more keepalives", lambda: accepted_keepalives(agent) >= before + count)
