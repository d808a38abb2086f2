"""The machine's place in its tailnet: when to ask tailscaled, when to give it the auth key, what is wrong.

The gateway is reached as without a tunnel, but not before tailscaled says that it is running: until then the api link
is down, with the reason. tailscaled belongs to the host; logging in is the only thing that the agent asks of it, and
only if it is not logged in ([ADR 7](../../docs/adr/0007-the-agent-logs-in-to-the-tailnet.md)).
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.backoff import between_s
from agent.core.config import Connection
from agent.core.context import Context
from agent.core.effects import Effect, JoinTailnet, QueryTailscaled
from agent.core.events import TailnetJoinTried, TailscaledQueried
from agent.core.host.facts import DaemonState, TailnetFacts
from agent.core.state import AgentState
from agent.core.tailnet.model import Tailnet
from agent.core.tunnel.faults import TAILNET, Fault, FaultKind
from agent.core.tunnel.model import LinkPhase, Purpose
from agent.core.tunnel.transitions import fail

EXPIRES_SOON_S = 3 * 86_400.0
"""A key that expires within this time is reported: renewing it may need a person."""

_NO_LOGIN = frozenset({DaemonState.NEEDS_LOGIN, DaemonState.KEY_EXPIRED})
_KINDS = {
    DaemonState.ABSENT: FaultKind.TAILSCALED,
    DaemonState.STOPPED: FaultKind.TAILSCALED,
    DaemonState.STARTING: FaultKind.TAILSCALED,
    DaemonState.NEEDS_LOGIN: FaultKind.TAILNET_LOGIN,
    DaemonState.NEEDS_APPROVAL: FaultKind.TAILNET_LOGIN,
    DaemonState.KEY_EXPIRED: FaultKind.TAILNET_KEY,
}


def manage(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    """Ask tailscaled for its status, and have it log in, whenever that is due."""
    effects: list[Effect] = []
    if state.config.connection is not Connection.TAILSCALE or state.exit_decision is not None:
        return state, effects
    tailnet = state.tailnet
    if not tailnet.looking and ctx.now_s >= tailnet.look_at_s:
        effects.append(QueryTailscaled(_peers_are_due(state, ctx), ctx.policy.tailnet_timeout_s))
        tailnet = replace(tailnet, looking=True)
    if _may_join(state) and not tailnet.joining and ctx.now_s >= tailnet.join_at_s:
        effects.append(JoinTailnet(ctx.policy.join_timeout_s))
        tailnet = replace(tailnet, joining=True, joins=tailnet.joins + 1)
    return replace(state, tailnet=tailnet), effects


def _peers_are_due(state: AgentState, ctx: Context) -> bool:
    """While the gateway is out of reach, its peer is of interest each time."""
    at_s = state.tailnet.peers_at_s
    is_old = at_s is None or ctx.now_s - at_s >= ctx.policy.tailnet_peers_s
    return is_old or state.api.phase is not LinkPhase.UP


def _may_join(state: AgentState) -> bool:
    facts = state.tailnet.facts
    return state.config.joins_tailnet and facts is not None and _state(state, facts) in _NO_LOGIN


def _state(state: AgentState, facts: TailnetFacts) -> DaemonState:
    """The state, corrected: with a key that is not accepted tailscaled stays *starting*, and a login is missing."""
    missing = state.tailnet.missing
    return missing if facts.state is DaemonState.STARTING and missing is not None else facts.state


def on_queried(state: AgentState, event: TailscaledQueried, ctx: Context) -> AgentState:
    """tailscaled answered, or did not; the api link follows its state."""
    before = state.tailnet
    tailnet = replace(before, looking=False, look_at_s=ctx.now_s + ctx.policy.tailnet_interval_s)
    facts = event.facts
    if facts.state is DaemonState.ABSENT:
        tailnet = replace(
            tailnet, failures=before.failures + 1, look_at_s=ctx.now_s + ctx.policy.probe_retry_s
        )
        if before.facts is not None and tailnet.failures < ctx.policy.tailnet_failures:
            return replace(state, tailnet=tailnet)
    else:
        tailnet = replace(tailnet, failures=0)
    tailnet = _updated(tailnet, event, ctx)
    return _follow(replace(state, tailnet=tailnet), ctx)


def _updated(tailnet: Tailnet, event: TailscaledQueried, ctx: Context) -> Tailnet:
    facts = event.facts
    if not event.with_peers and tailnet.facts is not None:
        facts = replace(facts, peer=tailnet.facts.peer)
    if facts.state is DaemonState.RUNNING:
        tailnet = replace(tailnet, missing=None, joins=0, join_at_s=0.0, join_error=None)
    elif facts.state in _NO_LOGIN:
        tailnet = replace(tailnet, missing=facts.state)
    return replace(
        tailnet,
        facts=facts,
        seen_at_s=ctx.now_s,
        peers_at_s=ctx.now_s if event.with_peers else tailnet.peers_at_s,
        name=facts.name or tailnet.name,
        address=facts.address or tailnet.address,
    )


def _follow(state: AgentState, ctx: Context) -> AgentState:
    """Take the api link down while there is no tailnet; try it at once when there is one again."""
    fault, link = current_fault(state), state.api
    if fault is not None:
        is_new = link.phase is not LinkPhase.DOWN or link.fault != fault
        return fail(state, Purpose.API, fault, ctx) if is_new else state
    waited = link.fault is None or link.fault.kind in TAILNET
    if link.phase is LinkPhase.DOWN and waited:
        state = replace(state, api=replace(link, retry_at_s=ctx.now_s))
    return state


def on_join_tried(state: AgentState, event: TailnetJoinTried, ctx: Context) -> AgentState:
    """The key was handed over; tailscaled's next status shows whether the control server accepts it."""
    tailnet, policy = state.tailnet, ctx.policy
    pause_s = min(policy.join_cap_s, policy.join_base_s * 2.0 ** min(tailnet.joins - 1, 10))
    tailnet = replace(
        tailnet,
        joining=False,
        join_at_s=ctx.now_s + between_s(pause_s / 2, pause_s, ctx.jitter),
        join_error=event.error,
        look_at_s=ctx.now_s + policy.probe_retry_s,
    )
    return replace(state, tailnet=tailnet)


def is_up(state: AgentState) -> bool:
    """Return whether peers can be reached; always so if the gateway is not reached through a tailnet."""
    return state.config.connection is not Connection.TAILSCALE or (
        state.tailnet.facts is not None and current_fault(state) is None
    )


def current_fault(state: AgentState) -> Fault | None:
    """Return what is wrong with this machine's place in its tailnet; None if nothing is, or nothing is known yet."""
    facts = state.tailnet.facts
    if facts is None:
        return None
    if facts.state is DaemonState.RUNNING:
        return Fault(FaultKind.TAILSCALED, _USERSPACE) if facts.userspace else None
    return Fault(_KINDS[_state(state, facts)], _text(state, facts))


_USERSPACE = (
    "tailscaled runs without a network interface (--tun=userspace-networking), so neither the agent nor k3s reaches "
    "the tailnet; give it /dev/net/tun"
)


def _text(state: AgentState, facts: TailnetFacts) -> str:
    details, daemon = f" ({facts.text})" if facts.text else "", _state(state, facts)
    if daemon is DaemonState.ABSENT:
        return f"tailscaled does not answer{details}; 'systemctl status tailscaled' says more"
    if daemon is DaemonState.STOPPED:
        return "tailscale is down on this machine; 'tailscale up' brings it back"
    if daemon is DaemonState.STARTING:
        return f"tailscaled is starting{details}; it waits for the control server"
    if daemon is DaemonState.NEEDS_APPROVAL:
        return "the tailnet's administrator must approve this machine first; do that in the admin console"
    what = "this machine is not logged in to its tailnet"
    if daemon is DaemonState.KEY_EXPIRED:
        what = "this machine's key in the tailnet has expired"
    return f"{what}{details}; {_fix(state)}"


def _fix(state: AgentState) -> str:
    if not state.config.joins_tailnet:
        return "give a key by BETA9_TAILSCALE_AUTH_FILE, or log in by hand with 'tailscale up'"
    if state.tailnet.join_error:
        return f"logging in failed: {state.tailnet.join_error}"
    if state.tailnet.joins > 1:
        return (
            "the control server has not accepted the key of BETA9_TAILSCALE_AUTH so far: it may be used up, expired or "
            "of another tailnet"
        )
    return "logging in with the key of BETA9_TAILSCALE_AUTH"


def unreached(state: AgentState, text: str) -> str:
    """Return why the gateway does not answer, with what is known of its peer in the tailnet."""
    facts = state.tailnet.facts
    if state.config.connection is not Connection.TAILSCALE or facts is None:
        return text
    peer = facts.peer
    if peer is None:
        return f"{text}; no peer of the tailnet has the name in BETA9_GATEWAY_HOST, or this machine may not see it"
    if peer.key_expired:
        return f"{text}; the key of {peer.name} in the tailnet has expired"
    return text if peer.online else f"{text}; {peer.name} is not connected to the tailnet"


def hostname(state: AgentState) -> str:
    """Return what the gateway is told to dial. One that sends no configuration appends the tailnet's name itself."""
    full = state.tailnet.name
    return full.partition(".")[0] if state.registration.gateway_config is False else full


def key_expires_in_s(state: AgentState, now_s: float) -> float | None:
    """Return the seconds until the machine's key expires; None: never, or not known."""
    tailnet = state.tailnet
    if tailnet.facts is None or tailnet.facts.key_expires_in_s is None or tailnet.seen_at_s is None:
        return None
    return tailnet.facts.key_expires_in_s - (now_s - tailnet.seen_at_s)
