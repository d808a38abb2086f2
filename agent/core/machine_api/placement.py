"""Whether the gateway can place work here, and whether a user's function would then return its result."""

from __future__ import annotations

from agent.core.config import Connection
from agent.core.machine_api import offer
from agent.core.state import AgentState
from agent.core.tunnel import reverse_form

_ONLY_6443 = (
    "the tunnel brings the gateway to this machine's k3s (port 6443) alone; for logs, results and web endpoints it "
    "also dials ports of the workers here, and those dials are refused (docs/ssh-tunnel.md, 'The two forms'): "
)


def unplaceable(state: AgentState) -> str | None:
    """Return why the gateway can place no work here; None if it can."""
    if state.offer.reason is not None:
        return state.offer.reason
    if offer.is_placeable(state):
        return None
    if offer.is_told(state):
        return "the gateway has accepted no keepalive since the machine was registered"
    return "the gateway was not told yet"


def functions_fail(state: AgentState) -> str | None:
    """Return why users' functions cannot run here; None if nothing that the agent knows of stands in their way.

    Work that is placed is not enough: the gateway dials each worker's and each container's own port (its contract,
    "What a real worker needs"). With BETA9_HOSTNAME a person has seen to an address where it reaches all of them.
    """
    reason = unplaceable(state)
    if reason is not None or state.config.connection is not Connection.SSH:
        return reason
    plain = reverse_form.plain_reason(state)
    if plain is None:
        return state.hairpin.containers
    return None if state.config.hostname else _ONLY_6443 + plain
