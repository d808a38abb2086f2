"""When the hairpin is made, checked and repaired, and when it lets connections to k3s through."""

from __future__ import annotations

from dataclasses import replace

from agent.core.config import K3sMode, ReverseMode
from agent.core.context import Context
from agent.core.effects import CheckHairpin, Effect
from agent.core.events import HairpinChecked
from agent.core.hairpin.model import Hairpin, HairpinFault, HairpinFaultKind
from agent.core.state import AgentState
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import LinkPhase, Purpose
from agent.core.tunnel.reverse_form import always_plain
from agent.core.tunnel.transitions import fail

_UNCUT = Fault(
    FaultKind.TARGET,
    "k3s does not answer, and connections to it could not be cut one by one: the ssh child is replaced",
)


def manage(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    """Check the hairpin when that is due, or when k3s has begun or stopped to answer."""
    hairpin, lets_in = state.hairpin, wants_in(state)
    has_k3s = state.kube.expected or state.config.k3s is K3sMode.NONE
    is_used = has_k3s and always_plain(state.config) is None and state.fallback.reason is None
    is_due = ctx.now_s >= hairpin.check_at_s or (hairpin.works and lets_in != hairpin.lets_in)
    if not is_used or not is_due or hairpin.checking or state.exit_decision is not None:
        return state, []
    tries_k3s = lets_in and state.config.k3s is not K3sMode.NONE and state.reverse.phase is not LinkPhase.UP
    inspected_at_s = hairpin.inspected_at_s
    inspects = (
        inspected_at_s is None
        or not hairpin.works
        or ctx.now_s - inspected_at_s >= ctx.policy.hairpin_inspect_s
    )
    effect = CheckHairpin(lets_in, tries_k3s, inspects, ctx.policy.hairpin_timeout_s)
    return replace(state, hairpin=replace(hairpin, checking=True)), [effect]


def wants_in(state: AgentState) -> bool:
    """Return whether connections to k3s are to be let through.

    One that hangs at a sick k3s stops the gateway's whole pool, one that is refused harms nobody.
    """
    return state.kube.answering or state.config.k3s is K3sMode.NONE


def on_checked(state: AgentState, event: HairpinChecked, ctx: Context) -> AgentState:
    """One check ended."""
    has_opened = event.lets_in and not state.hairpin.lets_in
    # One that misses k3s may have met it in a restart.
    misses = state.hairpin.k3s_misses + 1 if event.k3s_missed and state.kube.answering else 0
    fault = event.fault
    if fault is None and event.k3s_missed and misses >= ctx.policy.probe_failures:
        fault = HairpinFault(HairpinFaultKind.UNABLE, event.k3s_missed)
    hairpin = Hairpin(
        check_at_s=ctx.now_s + _pause_s(state, fault, misses, ctx),
        checked_at_s=ctx.now_s,
        inspected_at_s=ctx.now_s if event.inspected else state.hairpin.inspected_at_s,
        fault=fault,
        lets_in=event.lets_in and fault is None,
        k3s_misses=misses,
        containers=event.containers if event.inspected else state.hairpin.containers,
    )
    state = replace(state, hairpin=hairpin)
    link = state.reverse
    if not link.any_port or link.phase is LinkPhase.DOWN:
        return state
    if event.uncut:
        return fail(state, Purpose.REVERSE, _UNCUT, ctx)
    return replace(state, reverse=replace(link, probe_at_s=ctx.now_s)) if has_opened else state


def _pause_s(state: AgentState, fault: HairpinFault | None, misses: int, ctx: Context) -> float:
    if (
        fault is not None
        and fault.kind is HairpinFaultKind.UNABLE
        and state.config.reverse is ReverseMode.AUTO
    ):
        # The plain form stands in.
        return ctx.policy.any_port_retry_s
    return ctx.policy.kube_retry_s if misses else ctx.policy.hairpin_interval_s
