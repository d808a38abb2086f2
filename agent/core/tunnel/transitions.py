"""One link's own rules: whether it is wanted, what a failure costs, and when it counts as up.

link_events.py takes in what happened to the links, link_upkeep.py does what is due for them.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.backoff import between_s, full_jitter_s
from agent.core.config import Connection, K3sMode
from agent.core.context import Context
from agent.core.state import AgentState
from agent.core.tunnel.faults import DENIED, Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase, Purpose

_MISCONFIGURED = frozenset({FaultKind.GATEWAY_PORTS, FaultKind.PERMIT_OPEN})
"""What only a person at the gateway's sshd can mend: asking quickly is noise in its log."""


def put(state: AgentState, purpose: Purpose, link: Link) -> AgentState:
    """The worker with one link changed."""
    if purpose is Purpose.API:
        return replace(state, api=link)
    if purpose is Purpose.REVERSE:
        return replace(state, reverse=link)
    return replace(state, data=link)


def wanted(state: AgentState, purpose: Purpose) -> bool:
    """Whether this link should be up at all.

    The reverse path is open only while k3s answers locally: a dial that hangs at a sick k3s stops the whole
    pool at the gateway, one that is refused harms nobody.
    """
    if state.exit_decision is not None:
        return False
    if purpose is Purpose.API:
        return True
    is_ssh = state.config.connection is Connection.SSH
    if purpose is Purpose.DATA:
        return is_ssh and state.config.data
    if not is_ssh and state.config.connection is not Connection.TAILSCALE:
        return False
    if state.config.k3s is K3sMode.NONE:
        return is_ssh and state.kube.logins.has_token
    return state.kube.expected and state.kube.answering


def pause_s(link: Link, kind: FaultKind, ctx: Context) -> float:
    """Seconds before the next attempt, by what went wrong and for how long."""
    policy = ctx.policy
    if kind is FaultKind.SESSION:
        return 0.0
    if kind in DENIED:
        return between_s(policy.denied_min_s, policy.denied_max_s, ctx.jitter)
    if kind in _MISCONFIGURED:
        return between_s(policy.backoff_cap_s / 2, policy.backoff_cap_s, ctx.jitter)
    young = link.down_since_s is None or ctx.now_s - link.down_since_s < policy.outage_s
    cap_s = policy.outage_cap_s if young else policy.backoff_cap_s
    return full_jitter_s(link.attempt, policy.backoff_base_s, cap_s, ctx.jitter)


def fail(state: AgentState, purpose: Purpose, fault: Fault, ctx: Context) -> AgentState:
    """The link is down because of `trouble`: note it, and decide when to try again and where."""
    link = state.link(purpose)
    settled = link.up_since_s is not None and ctx.now_s - link.up_since_s >= ctx.policy.settled_s
    link = replace(link, attempt=0) if settled else link
    pause = pause_s(link, fault.kind, ctx)
    if purpose is Purpose.REVERSE and moves_on(state, fault.kind):
        state, pause = _next_address(state, link, fault, pause)
    is_conflict = fault.kind is FaultKind.LOCAL_PORT
    if fault.kind in DENIED:
        state = replace(state, denied_at_s=ctx.now_s)
    link = replace(
        link,
        phase=LinkPhase.DOWN,
        attempt=link.attempt + 1,
        retry_at_s=max(ctx.now_s + pause, _spared_until_s(state, ctx)),
        down_since_s=ctx.now_s if link.down_since_s is None else link.down_since_s,
        conflict_since_s=(link.conflict_since_s or ctx.now_s) if is_conflict else None,
        up_since_s=None,
        logged_in_at_s=None,
        probing=False,
        silent=0,
        refusals=0,
        session=link.session and fault.kind is not FaultKind.SESSION,
        fault=fault,
        last_complaint=None,
        restarts=_count(link.restarts, fault.kind.value),
    )
    return put(state, purpose, link)


def _spared_until_s(state: AgentState, ctx: Context) -> float:
    """Until when sshd must hear of no further login: one that it refused was another child's, with the same key."""
    return ctx.now_s if state.denied_at_s is None else state.denied_at_s + ctx.policy.denied_min_s


def moves_on(state: AgentState, kind: FaultKind) -> bool:
    """Whether the reverse path should take its next address rather than ask for the same again."""
    has_others = state.config.connection is Connection.SSH and len(state.config.addresses) > 1
    return has_others and kind in {
        FaultKind.BIND,
        FaultKind.ADDRESS,
        FaultKind.SILENT,
    }


def _next_address(state: AgentState, link: Link, fault: Fault, pause: float) -> tuple[AgentState, float]:
    # The first round over all addresses costs no pause: a dead session that holds one costs a second, not more.
    if link.attempt < len(state.config.addresses) - 1:
        pause = 0.0
    return replace(
        state, candidate=state.candidate + 1, detour=f"not {state.address}: {fault.message}"
    ), pause


def _count(restarts: tuple[tuple[str, int], ...], reason: str) -> tuple[tuple[str, int], ...]:
    counts = dict(restarts)
    counts[reason] = counts.get(reason, 0) + 1
    return tuple(counts.items())


def probed(state: AgentState, purpose: Purpose) -> bool:
    """Whether somebody answers at this link's far end who can be asked."""
    return purpose is Purpose.API or (purpose is Purpose.REVERSE and state.config.k3s is not K3sMode.NONE)


def up(link: Link, took_s: float | None, ctx: Context, again_s: float | None = None) -> Link:
    """The link after an answer that took `took_s`; asked again after `again_s`, by default the usual interval."""
    came_up = link.phase is not LinkPhase.UP
    return replace(
        link,
        phase=LinkPhase.UP,
        up_since_s=ctx.now_s if came_up else link.up_since_s,
        down_since_s=None,
        conflict_since_s=None,
        answered_at_s=ctx.now_s,
        probe_s=took_s,
        silent=0,
        refusals=0,
        fault=None,
        probe_at_s=ctx.now_s + (again_s or ctx.policy.probe_interval_s),
    )
