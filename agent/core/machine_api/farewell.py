"""The farewell: the last registration, which offers nothing and which no keepalive follows.

calls.py sends it in the drain's last phase; the shutdown is complete once it has been sent (lifecycle/shutdown.py).
"""

from __future__ import annotations

from agent.core.lifecycle.model import DrainPhase, Shutdown
from agent.core.state import AgentState


def may_speak(state: AgentState, shutdown: Shutdown) -> bool:
    """Return whether a machine that shuts down may call the gateway: not if the gateway no longer knows it.

    There is nothing to withdraw then, and registering would bring back a machine that somebody deleted. Only a wait
    for workers, which may take hours, needs the lease.
    """
    needs_lease = shutdown.phase is DrainPhase.WAITING and state.registration.times > 0
    return state.registration.known or needs_lease


def farewell_sent(state: AgentState) -> bool:
    """Return whether the last thing that the gateway heard is a registration that offers nothing."""
    registration, shutdown = state.registration, state.shutdown
    if shutdown is None or not registration.known:
        return True
    offers_nothing = registration.advertisement is not None and not registration.advertisement.offered
    return offers_nothing and registration.quiet and registration.at_s >= shutdown.since_s
