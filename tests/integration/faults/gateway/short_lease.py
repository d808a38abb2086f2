"""Agents with short leases, for faults of the gateway.

Scaled: the gateway's lease is LEASE_S instead of 300 s and the interval between keepalives INTERVAL_S instead of 60 s;
time-outs and pauses are shortened to match (`TUNING`). What else a row calls 60 s is stated in its test.
"""

from __future__ import annotations

from typing import Any

from tests.integration.agent_process import AgentProcess
from tests.integration.lab import Lab
from tests.integration.polling import wait_for

LEASE_S = 15
INTERVAL_S = 1
TUNING = {
    "ttl_s": LEASE_S,
    "keepalive_timeout_s": 2,
    "keepalive_retry_s": 0.3,
    "call_retry_cap_s": 1,
    "refused_retry_s": 2,
    "register_timeout_s": 4,
}


def agent_in(lab: Lab, **settings: str) -> AgentProcess:
    """Return an agent with these timings, not started yet."""
    return lab.agent(TUNING, BETA9_KEEPALIVE_INTERVAL=str(INTERVAL_S), **settings)


def ready_in(lab: Lab) -> AgentProcess:
    """Start an agent with these timings and wait until it is READY and offers capacity."""
    agent = agent_in(lab).start()
    agent.wait_back()
    return agent


def wait_for_failure(agent: AgentProcess, already: int) -> str:
    """Wait for another failed keepalive after `already` logged ones; return its reason."""
    wait_for("a keepalive fails", lambda: len(agent.events("keepalive_failed")) > already)
    return str(agent.events("keepalive_failed")[-1]["reason"])


def wait_for_recovery(agent: AgentProcess, already: int = 0) -> None:
    """Wait until a keepalive is accepted again after a failure; `already` such recoveries were logged before."""
    wait_for("keepalives are accepted again", lambda: len(agent.events("keepalive_recovered")) > already)


def keepalives(lab: Lab) -> list[dict[str, Any]]:
    """Return the logged keepalives that name a machine, oldest first (the check at the start names none)."""
    return [entry for entry in lab.gateway.requests("keepalive") if entry["machine_id"]]


def registrations(lab: Lab) -> int:
    """Return how many register calls the gateway has received."""
    return len(lab.gateway.requests("register"))
