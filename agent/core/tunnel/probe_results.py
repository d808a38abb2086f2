"""What the probes found, and when they replace a child.

A child is replaced after three probes in a row that got no answer at all. A probe that is *closed* came back from the
far side, so the tunnel works and what it leads to does not: replacing the child would not help.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.backoff import full_jitter_s
from agent.core.config import Connection
from agent.core.context import Context
from agent.core.events import REACHED, Answer, ApiProbed, Probe, ReverseProbed
from agent.core.state import AgentState
from agent.core.tailnet import login
from agent.core.tunnel import reverse_form
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase, Purpose
from agent.core.tunnel.transitions import answered, fail, with_link

_SILENT = Fault(FaultKind.SILENT, "no answer through the tunnel; the ssh child is replaced")


def on_api_probed(state: AgentState, event: ApiProbed, ctx: Context) -> AgentState:
    """The gateway was asked for its health through the api link."""
    link = state.api
    if event.generation != link.generation or link.phase is LinkPhase.DOWN:
        return state
    answer = event.probe.answer
    link = replace(link, probing=False)
    # Before the login whatever answers there is not our child, but a process that holds its port.
    is_early = link.logged_in_at_s is None or (
        answer is Answer.NOT_LISTENING and link.phase is LinkPhase.STARTING
    )
    if state.config.connection is Connection.SSH and is_early:
        return replace(state, api=replace(link, probe_at_s=ctx.now_s + ctx.policy.start_probe_s))
    if answer in REACHED:
        error = None if answer is Answer.ANSWERED else event.probe.text
        state = state if link.phase is LinkPhase.UP else _gateway_is_back(state, ctx)
        return replace(state, api=answered(link, event.probe.took_s, ctx), gateway_error=error)
    if state.config.connection is not Connection.SSH:
        return _unanswered_without_ssh(state, link, event, ctx)
    if answer in {Answer.CLOSED, Answer.BEYOND_SILENT}:
        return _gateway_down_behind_tunnel(state, link, event.probe, ctx)
    return _count_missed_probe(state, Purpose.API, link, ctx)


def _gateway_is_back(state: AgentState, ctx: Context) -> AgentState:
    """Let calls that waited for a retry go at once; a keepalive tells whether the gateway still knows this machine."""
    lease = replace(state.lease, next_at_s=ctx.now_s)
    return replace(state, call_retry_at_s=ctx.now_s, misses=0, lease=lease)


def _unanswered_without_ssh(state: AgentState, link: Link, event: ApiProbed, ctx: Context) -> AgentState:
    """Without a tunnel there is no child to spare: while starting, every missed probe is a failed attempt."""
    message = login.unreached(state, event.probe.text or "the gateway does not answer")
    fault = Fault(FaultKind.UNREACHABLE, message)
    state = replace(state, api=link, gateway_error=message)
    if link.phase is LinkPhase.STARTING or link.silent + 1 >= ctx.policy.probe_failures:
        return fail(state, Purpose.API, fault, ctx)
    return _count_missed_probe(state, Purpose.API, link, ctx)


def _gateway_down_behind_tunnel(state: AgentState, link: Link, probe: Probe, ctx: Context) -> AgentState:
    """The tunnel works, the gateway behind it does not answer: wait for it, with jitter, on the same child."""
    policy = ctx.policy
    if probe.answer is Answer.CLOSED and link.last_complaint is None and link.refusals == 0:
        # ssh says why on its stderr, which may come after the connection was closed: probe once more, then judge.
        again = replace(link, refusals=1, probe_at_s=ctx.now_s + policy.start_probe_s)
        return replace(state, api=again)
    pause = full_jitter_s(link.refusals, policy.probe_retry_s, policy.outage_cap_s, ctx.jitter)
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
    if fault.kind is FaultKind.PERMIT_OPEN and logged_in_s >= policy.denied_min_s:
        return fail(state, Purpose.API, fault, ctx)
    return state


def on_reverse_probed(state: AgentState, event: ReverseProbed, ctx: Context) -> AgentState:
    """The machine's own Kubernetes was asked through the gateway's side."""
    link = state.reverse
    if event.generation != link.generation or link.phase is LinkPhase.DOWN:
        return state
    answer = event.probe.answer
    link = replace(link, probing=False)
    if answer in {Answer.ANSWERED, Answer.UNWELL}:
        if link.logged_in_at_s is None:
            # Not by our forward: an earlier session, or another machine, still holds the address.
            return replace(state, reverse=replace(link, probe_at_s=ctx.now_s + ctx.policy.start_probe_s))
        link = answered(link, event.probe.took_s, ctx, ctx.policy.reverse_interval_s)
        return reverse_form.on_verified(replace(state, path_verified=True, reverse=link))
    if answer is Answer.DENIED and link.any_port:
        # Something of the gateway's host listens on 6443 of all its addresses, and no relay stands before it.
        return _reverse_missed(state, link, event.probe, ctx)
    if answer is Answer.DENIED:
        message = f"{state.address} answers, and not as this machine's k3s: {event.probe.text}"
        state = with_link(state, Purpose.REVERSE, link)
        return fail(state, Purpose.REVERSE, Fault(FaultKind.ADDRESS, message), ctx)
    return _reverse_unanswered(state, link, event.probe, ctx)


def _reverse_unanswered(state: AgentState, link: Link, probe: Probe, ctx: Context) -> AgentState:
    if state.config.connection is not Connection.SSH:
        return _own_address_unanswered(state, link, probe, ctx)
    if link.logged_in_at_s is None:
        return replace(state, reverse=replace(link, probe_at_s=ctx.now_s + ctx.policy.start_probe_s))
    if link.any_port:
        return _reverse_missed(state, link, probe, ctx)
    return (_reverse_silent if probe.answer is Answer.SILENT else _reverse_closed)(state, link, ctx)


def _reverse_missed(state: AgentState, link: Link, probe: Probe, ctx: Context) -> AgentState:
    """Any port: the probe came through a relay and the hairpin, and one of them, or k3s, may be what is wrong.

    k3s and the hairpin are looked at first; a child that carries connections to other ports is not ended for them.
    """
    policy = ctx.policy
    since_s = ctx.now_s - (link.logged_in_at_s or 0.0)
    if link.phase is LinkPhase.STARTING and since_s < policy.reverse_settle_s / 3:
        return _probe_soon(state, link, ctx)
    missed_at_s = ctx.now_s if link.missed_at_s is None else link.missed_at_s
    link = replace(
        link, missed_at_s=missed_at_s, silent=link.silent + 1, probe_at_s=ctx.now_s + policy.probe_retry_s
    )
    kube = state.kube if state.kube.probing else replace(state.kube, probe_at_s=ctx.now_s)
    hairpin = state.hairpin if state.hairpin.checking else replace(state.hairpin, check_at_s=ctx.now_s)
    was = state
    state = replace(state, reverse=link, kube=kube, hairpin=hairpin)
    is_local_well = min(was.kube.answered_at_s or 0.0, was.hairpin.checked_at_s or 0.0) > missed_at_s
    if probe.answer is Answer.SILENT and not _is_api_well(state, ctx):
        # The whole network may be down.
        return replace(state, reverse=replace(link, silent=0))
    if not is_local_well or was.hairpin.k3s_misses or link.silent < policy.probe_failures:
        return state
    if link.phase is LinkPhase.UP or probe.answer is Answer.SILENT:
        return fail(state, Purpose.REVERSE, _SILENT, ctx)
    return _unrelayed(state, link, ctx)


def _unrelayed(state: AgentState, link: Link, ctx: Context) -> AgentState:
    """The child is let in and what it leads to is well; nothing on the gateway's side passes connections on to it."""
    if ctx.now_s - (link.logged_in_at_s or 0.0) < reverse_form.relay_patience_s(state, ctx):
        return state
    complaint = state.api.last_complaint
    if complaint is not None and complaint.kind is FaultKind.PERMIT_OPEN:
        return fail(state, Purpose.REVERSE, _not_permitted(state, complaint), ctx)
    fault = Fault(FaultKind.RELAY, reverse_form.no_relay(state.address))
    return fail(reverse_form.on_no_relay(state, ctx), Purpose.REVERSE, fault, ctx)


def _own_address_unanswered(state: AgentState, link: Link, probe: Probe, ctx: Context) -> AgentState:
    """In a tailnet: k3s answers on loopback, but not where the gateway dials it."""
    message = (
        f"this machine's k3s does not answer at its own address in the tailnet, {state.address}: {probe.text}; "
        "k3s must not be bound to other addresses alone (bind-address)"
    )
    link = replace(link, silent=link.silent + 1, probe_at_s=ctx.now_s + ctx.policy.probe_retry_s)
    state = with_link(state, Purpose.REVERSE, link)
    is_over = link.phase is LinkPhase.STARTING or link.silent >= ctx.policy.probe_failures
    return fail(state, Purpose.REVERSE, Fault(FaultKind.ADDRESS, message), ctx) if is_over else state


def _reverse_silent(state: AgentState, link: Link, ctx: Context) -> AgentState:
    """Silence blames the reverse path only while the api link answers, since the probe goes through both.

    Otherwise the whole network is down, which the children notice themselves; another address would cost a
    registration for nothing.
    """
    if _is_api_well(state, ctx):
        return _count_missed_probe(state, Purpose.REVERSE, link, ctx)
    return replace(state, reverse=replace(link, probe_at_s=ctx.now_s + ctx.policy.probe_retry_s))


def _is_api_well(state: AgentState, ctx: Context) -> bool:
    recent_s = ctx.policy.probe_interval_s + ctx.policy.probe_timeout_s
    return state.api.silent == 0 and ctx.now_s - (state.api.answered_at_s or 0.0) < recent_s


def _probe_soon(state: AgentState, link: Link, ctx: Context) -> AgentState:
    """Right after the login the forward may still be a round trip away."""
    pause = ctx.policy.start_probe_s * (1 + link.refusals)
    return replace(state, reverse=replace(link, probe_at_s=ctx.now_s + pause, refusals=link.refusals + 1))


def _reverse_closed(state: AgentState, link: Link, ctx: Context) -> AgentState:
    policy = ctx.policy
    if link.phase is LinkPhase.UP:
        return _count_missed_probe(state, Purpose.REVERSE, link, ctx)
    if ctx.now_s - (link.logged_in_at_s or 0.0) < policy.reverse_settle_s:
        return _probe_soon(state, link, ctx)
    complaint = state.api.last_complaint
    if complaint is not None and complaint.kind is FaultKind.PERMIT_OPEN:
        return fail(state, Purpose.REVERSE, _not_permitted(state, complaint), ctx)
    message = (
        f"sshd accepted the reverse forward, but {state.address} does not answer there: it bound another address. "
        "Set 'GatewayPorts clientspecified' in the gateway's sshd_config and reload sshd"
    )
    return fail(state, Purpose.REVERSE, Fault(FaultKind.GATEWAY_PORTS, message), ctx)


def _not_permitted(state: AgentState, complaint: Fault) -> Fault:
    message = f"the gateway's sshd does not let this key open {state.address}:6443: {complaint.message}"
    return Fault(FaultKind.PERMIT_OPEN, message)


def _count_missed_probe(state: AgentState, purpose: Purpose, link: Link, ctx: Context) -> AgentState:
    """One more probe without an answer; the third in a row replaces the child."""
    link = replace(link, silent=link.silent + 1, probe_at_s=ctx.now_s + ctx.policy.probe_retry_s)
    state = with_link(state, purpose, link)
    return fail(state, purpose, _SILENT, ctx) if link.silent >= ctx.policy.probe_failures else state
