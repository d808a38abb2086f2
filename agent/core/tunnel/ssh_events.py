"""What happened to the ssh children: their lines, their ends, and what the probes found.

A child is replaced when it exits or when three probes in a row get no answer at all. A probe that is *closed*
came back from the far side, so the tunnel is well and its end is not: replacing the child would not help.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.backoff import full_jitter_s
from agent.core.config import Connection
from agent.core.context import Context
from agent.core.events import (
    REACHED,
    Answer,
    ApiProbed,
    LinkComplained,
    LinkEnded,
    LinkLoggedIn,
    Probe,
    ReverseProbed,
)
from agent.core.state import AgentState
from agent.core.tailnet import login
from agent.core.tunnel.faults import DENIED, Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase, Purpose
from agent.core.tunnel.transitions import fail, probed, put, up

_SHARED = DENIED | {
    FaultKind.REFUSED,
    FaultKind.UNREACHABLE,
    FaultKind.DNS,
    FaultKind.LOST,
    FaultKind.SILENT,
    FaultKind.SECRET,
}
"""Troubles of the way to sshd, which all children share."""

_SILENT = Fault(FaultKind.SILENT, "no answer through the tunnel; the ssh child is replaced")


def on_logged_in(state: AgentState, event: LinkLoggedIn, ctx: Context) -> AgentState:
    """sshd let the child in."""
    link = state.link(event.purpose)
    if event.generation != link.generation or link.phase is LinkPhase.DOWN:
        return state
    # The forwards are set up within a round trip of the login, so ask at once.
    link = replace(link, logged_in_at_s=ctx.now_s, probe_at_s=ctx.now_s)
    state = replace(state, denied_at_s=None)
    if event.purpose is Purpose.API:
        state = _follow_api(state, ctx)
    return put(state, event.purpose, link if probed(state, event.purpose) else up(link, None, ctx))


def _follow_api(state: AgentState, ctx: Context) -> AgentState:
    """The way to sshd is open and the key is good: whoever waited only for that goes now."""
    for purpose in (Purpose.REVERSE, Purpose.DATA):
        link = state.link(purpose)
        if link.phase is LinkPhase.DOWN and link.fault is not None and link.fault.kind in _SHARED:
            state = put(state, purpose, replace(link, retry_at_s=ctx.now_s))
    return state


def on_complained(state: AgentState, event: LinkComplained, _at: Context) -> AgentState:
    """Keep the complaint; it is told only if a probe then finds the forward closed."""
    link = state.link(event.purpose)
    if event.generation != link.generation:
        return state
    # What a key may open is settled at the login, so this complaint holds as long as the child; others pass.
    if link.last_complaint is not None and link.last_complaint.kind is FaultKind.PERMIT_OPEN:
        return state
    return put(state, event.purpose, replace(link, last_complaint=event.fault))


def on_ended(state: AgentState, event: LinkEnded, ctx: Context) -> AgentState:
    """A child is gone. One that belongs to an earlier generation was ended by us."""
    link = state.link(event.purpose)
    if event.generation != link.generation or link.phase is LinkPhase.DOWN:
        return state
    return fail(put(state, event.purpose, replace(link, child=False)), event.purpose, event.fault, ctx)


def on_api_probed(state: AgentState, event: ApiProbed, ctx: Context) -> AgentState:
    """The gateway was asked for its health through the api link."""
    link = state.api
    if event.generation != link.generation or link.phase is LinkPhase.DOWN:
        return state
    answer = event.probe.answer
    link = replace(link, probing=False)
    # Before the login whatever answers there is not our child, but a process that holds its port.
    not_listening = answer is Answer.NOT_LISTENING and link.phase is LinkPhase.STARTING
    if state.config.connection is Connection.SSH and (link.logged_in_at_s is None or not_listening):
        return replace(state, api=replace(link, probe_at_s=ctx.now_s + ctx.policy.start_probe_s))
    if answer in REACHED:
        text = None if answer is Answer.ANSWERED else event.probe.text
        state = state if link.phase is LinkPhase.UP else _came_back(state, ctx)
        return replace(state, api=up(link, event.probe.took_s, ctx), gateway_error=text)
    if state.config.connection is not Connection.SSH:
        return _direct_unanswered(state, link, event, ctx)
    if answer in {Answer.CLOSED, Answer.BEYOND_SILENT}:
        return _api_beyond(state, link, event.probe, ctx)
    return _count_missed_probe(state, Purpose.API, link, ctx)


def _came_back(state: AgentState, ctx: Context) -> AgentState:
    """A new way to the gateway: whatever waited for a retry may go, and a keepalive tells whether we are known."""
    return replace(
        state, call_retry_at_s=ctx.now_s, misses=0, lease=replace(state.lease, next_at_s=ctx.now_s)
    )


def _direct_unanswered(state: AgentState, link: Link, event: ApiProbed, ctx: Context) -> AgentState:
    """Without a tunnel there is no child to spare: while starting every miss is an attempt that failed."""
    text = login.unreached(state, event.probe.text or "the gateway does not answer")
    fault = Fault(FaultKind.UNREACHABLE, text)
    state = replace(state, api=link, gateway_error=fault.message)
    if link.phase is LinkPhase.STARTING or link.silent + 1 >= ctx.policy.probe_failures:
        return fail(state, Purpose.API, fault, ctx)
    return _count_missed_probe(state, Purpose.API, link, ctx)


def _api_beyond(state: AgentState, link: Link, probe: Probe, ctx: Context) -> AgentState:
    """The tunnel is well, the gateway behind it is not: wait for it, with jitter, on the same child."""
    if probe.answer is Answer.CLOSED and link.last_complaint is None and link.refusals == 0:
        # ssh says why on its stderr, which may come after the end of the connection: ask once more, then judge.
        return replace(state, api=replace(link, refusals=1, probe_at_s=ctx.now_s + ctx.policy.start_probe_s))
    pause = full_jitter_s(link.refusals, ctx.policy.probe_retry_s, ctx.policy.outage_cap_s, ctx.jitter)
    fault = link.last_complaint or Fault(
        FaultKind.TARGET, probe.text or "the gateway does not answer behind the tunnel"
    )
    link = replace(
        link,
        silent=0,
        refusals=link.refusals + 1,
        probe_at_s=ctx.now_s + pause,
        fault=fault,
        started_at_s=ctx.now_s,
    )
    state = replace(state, api=link, gateway_error=fault.message)
    # What a key may open is settled at the login: only another login, now and then, sees that it was corrected.
    logged_in_s = ctx.now_s - (link.logged_in_at_s or ctx.now_s)
    if fault.kind is FaultKind.PERMIT_OPEN and logged_in_s >= ctx.policy.denied_min_s:
        return fail(state, Purpose.API, fault, ctx)
    return state


def on_reverse_probed(state: AgentState, event: ReverseProbed, ctx: Context) -> AgentState:
    """The machine's own Kubernetes was asked for through the gateway's side."""
    link = state.reverse
    if event.generation != link.generation or link.phase is LinkPhase.DOWN:
        return state
    answer = event.probe.answer
    link = replace(link, probing=False)
    if answer in {Answer.ANSWERED, Answer.UNWELL}:
        if link.logged_in_at_s is None:
            # Not by our forward: a session of before, or another machine, still holds the address.
            return replace(state, reverse=replace(link, probe_at_s=ctx.now_s + ctx.policy.start_probe_s))
        return replace(
            state,
            path_verified=True,
            reverse=up(link, event.probe.took_s, ctx, ctx.policy.reverse_interval_s),
        )
    if answer is Answer.DENIED:
        text = f"{state.address} answers, and not as this machine's k3s: {event.probe.text}"
        return fail(put(state, Purpose.REVERSE, link), Purpose.REVERSE, Fault(FaultKind.ADDRESS, text), ctx)
    if state.config.connection is not Connection.SSH:
        return _own_address_unanswered(state, link, event.probe, ctx)
    is_silent = answer is Answer.SILENT and link.logged_in_at_s is not None
    return (_reverse_silent if is_silent else _reverse_closed)(state, link, ctx)


def _own_address_unanswered(state: AgentState, link: Link, probe: Probe, ctx: Context) -> AgentState:
    """k3s answers on loopback, and not where the gateway dials it."""
    text = (
        f"this machine's k3s does not answer at its own address in the tailnet, {state.address}: {probe.text}"
    )
    fault = Fault(FaultKind.ADDRESS, f"{text}; k3s must not be bound to other addresses alone (bind-address)")
    link = replace(link, silent=link.silent + 1, probe_at_s=ctx.now_s + ctx.policy.probe_retry_s)
    state = put(state, Purpose.REVERSE, link)
    is_over = link.phase is LinkPhase.STARTING or link.silent >= ctx.policy.probe_failures
    return fail(state, Purpose.REVERSE, fault, ctx) if is_over else state


def _reverse_silent(state: AgentState, link: Link, ctx: Context) -> AgentState:
    """Silence blames the reverse path only while the api link answers: the probe goes through both.

    Otherwise the whole network is down, the children notice that themselves, and taking another address would
    cost a registration for nothing.
    """
    policy = ctx.policy
    recent_s = policy.probe_interval_s + policy.probe_timeout_s
    api_well = state.api.silent == 0 and ctx.now_s - (state.api.answered_at_s or 0.0) < recent_s
    if api_well:
        return _count_missed_probe(state, Purpose.REVERSE, link, ctx)
    return replace(state, reverse=replace(link, probe_at_s=ctx.now_s + policy.probe_retry_s))


def _reverse_closed(state: AgentState, link: Link, ctx: Context) -> AgentState:
    policy = ctx.policy
    if link.logged_in_at_s is None:
        later = replace(link, probe_at_s=ctx.now_s + policy.start_probe_s)
        return replace(state, reverse=later)
    if link.phase is LinkPhase.UP:
        return _count_missed_probe(state, Purpose.REVERSE, link, ctx)
    if ctx.now_s - link.logged_in_at_s < policy.reverse_settle_s:
        # Asked at once after the login, the forward may be a round trip away.
        later = replace(
            link,
            probe_at_s=ctx.now_s + policy.start_probe_s * (1 + link.refusals),
            refusals=link.refusals + 1,
        )
        return replace(state, reverse=later)
    if state.api.last_complaint is not None and state.api.last_complaint.kind is FaultKind.PERMIT_OPEN:
        text = f"the gateway's sshd does not let this key open {state.address}:6443: {state.api.last_complaint.message}"
        return fail(state, Purpose.REVERSE, Fault(FaultKind.PERMIT_OPEN, text), ctx)
    text = (
        f"sshd accepted the reverse forward, but {state.address} does not answer there: it bound another address. "
        "Set 'GatewayPorts clientspecified' in the gateway's sshd_config and reload sshd"
    )
    return fail(state, Purpose.REVERSE, Fault(FaultKind.GATEWAY_PORTS, text), ctx)


def _count_missed_probe(state: AgentState, purpose: Purpose, link: Link, ctx: Context) -> AgentState:
    link = replace(link, silent=link.silent + 1, probe_at_s=ctx.now_s + ctx.policy.probe_retry_s)
    state = put(state, purpose, link)
    return fail(state, purpose, _SILENT, ctx) if link.silent >= ctx.policy.probe_failures else state
