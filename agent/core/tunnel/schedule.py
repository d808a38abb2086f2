"""What is due for the links: which ssh child to start, to stop, and which link to probe now."""

from __future__ import annotations

from dataclasses import replace

from agent.core.config import Connection
from agent.core.context import Context
from agent.core.effects import Effect, ProbeApi, ProbeReverse, StartLink, StopLink
from agent.core.hairpin import upkeep
from agent.core.state import AgentState
from agent.core.tailnet import login
from agent.core.tunnel import reverse_form
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase, Purpose
from agent.core.tunnel.transitions import (
    ATTEMPT,
    SHUT,
    UNWANTED,
    fail,
    has_other_form,
    is_probed,
    is_wanted,
    next_phase,
    with_link,
)


def manage(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    """Start, stop and probe whatever is due now."""
    effects: list[Effect] = []
    for purpose in Purpose:
        state = _manage_one(state, purpose, ctx, effects)
    state = _probe_api(state, ctx, effects)
    return _probe_reverse(state, ctx, effects), effects


def _manage_one(state: AgentState, purpose: Purpose, ctx: Context, effects: list[Effect]) -> AgentState:
    if purpose is Purpose.REVERSE:
        state = _follow_form(state, ctx)
    link = state.link(purpose)
    # Without a tailnet its address cannot be probed; the api link says what is wrong.
    wanted = is_wanted(state, purpose) and (purpose is Purpose.API or login.is_up(state))
    if not wanted and link.phase is not LinkPhase.DOWN:
        link = _reset(link)
        state = with_link(state, purpose, link)
    elif _login_is_overdue(state, link, ctx):
        message = f"ssh was not let in after {ctx.policy.start_timeout_s:g} s"
        state = fail(state, purpose, Fault(FaultKind.SILENT, message), ctx)
        # ssh may have spent the time on addresses of the server's name that do not answer.
        link = replace(state.link(purpose), hurry=True)
        state = with_link(state, purpose, link)
    if link.phase is LinkPhase.DOWN and link.child:
        reason = link.fault.message if link.fault else "not wanted now"
        effects.append(StopLink(purpose, link.generation, reason))
        link = replace(link, child=False)
        state = with_link(state, purpose, link)
    is_due = link.phase is LinkPhase.DOWN and ctx.now_s >= link.retry_at_s
    if wanted and is_due and _may_attempt(state, purpose):
        return _start(state, purpose, link, ctx, effects)
    return state


def _follow_form(state: AgentState, ctx: Context) -> AgentState:
    """Replace a reverse child of the other form, and take in that k3s stopped answering behind one for any port."""
    state = reverse_form.try_again(state, ctx)
    link = state.reverse
    if link.phase is LinkPhase.DOWN:
        return state
    if has_other_form(state, Purpose.REVERSE, link):
        # An offer outlives the change by its grace.
        return replace(state, reverse=replace(_reset(link), down_since_s=ctx.now_s))
    is_shut = link.any_port and link.phase is LinkPhase.UP and not upkeep.wants_in(state)
    if not is_shut:
        return state
    link = replace(
        link, phase=next_phase(link, SHUT), up_since_s=None, silent=0, missed_at_s=None, refusals=0
    )
    return replace(state, reverse=link)


def _may_attempt(state: AgentState, purpose: Purpose) -> bool:
    """While sshd is out of reach or refuses the key, only the api child attempts a login, for all of them.

    The first attempt after a start is made by all at once, for speed. In a tailnet all wait for tailscaled.
    """
    api = state.api
    if state.config.connection is Connection.TAILSCALE:
        return login.is_up(state)
    if purpose is Purpose.API or state.config.connection is not Connection.SSH:
        return True
    return api.phase is not LinkPhase.DOWN and (api.logged_in_at_s is not None or api.generation == 1)


def _reset(link: Link) -> Link:
    """Take a link down that is no longer wanted; it starts without a past when it is wanted again."""
    return replace(
        link,
        phase=next_phase(link, UNWANTED),
        attempt=0,
        retry_at_s=0.0,
        up_since_s=None,
        logged_in_at_s=None,
        down_since_s=None,
        probing=False,
        silent=0,
        missed_at_s=None,
        refusals=0,
        fault=None,
        last_complaint=None,
    )


def _login_is_overdue(state: AgentState, link: Link, ctx: Context) -> bool:
    """ssh limits the time for connecting, but not for logging in: the agent does."""
    is_waiting = link.phase is LinkPhase.STARTING and link.logged_in_at_s is None
    is_ssh = state.config.connection is Connection.SSH
    return is_ssh and is_waiting and ctx.now_s - link.started_at_s >= ctx.policy.start_timeout_s


def _start(
    state: AgentState, purpose: Purpose, link: Link, ctx: Context, effects: list[Effect]
) -> AgentState:
    link = replace(
        link,
        phase=next_phase(link, ATTEMPT),
        generation=link.generation + 1,
        started_at_s=ctx.now_s,
        probing=False,
        probe_at_s=ctx.now_s + ctx.policy.start_probe_s,
    )
    if state.config.connection is Connection.SSH:
        link = replace(link, child=True)
        address = state.address if purpose is Purpose.REVERSE else None
        hurry = link.hurry or state.api.hurry
        any_port = purpose is Purpose.REVERSE and reverse_form.uses_any_port(state)
        link = replace(link, any_port=any_port)
        effects.append(StartLink(purpose, link.generation, address, link.session, hurry, any_port))
    else:
        # No child has to be let in first.
        link = replace(link, probe_at_s=ctx.now_s, logged_in_at_s=ctx.now_s)
    return with_link(state, purpose, link)


def _probe_api(state: AgentState, ctx: Context, effects: list[Effect]) -> AgentState:
    link = state.api
    if link.phase is LinkPhase.DOWN or link.probing or ctx.now_s < link.probe_at_s or state.exit_decision:
        return state
    effects.append(ProbeApi(link.generation, ctx.policy.probe_timeout_s, _spare_address(state)))
    return replace(state, api=replace(link, probing=True))


def _spare_address(state: AgentState) -> int | None:
    """The index of a candidate address that is not in use, if there is one."""
    count = len(state.config.addresses)
    if count < 2 or state.config.connection is not Connection.SSH:
        return None
    return (state.candidate + count - 1) % count


def _probe_reverse(state: AgentState, ctx: Context, effects: list[Effect]) -> AgentState:
    link = state.reverse
    is_idle = link.phase is LinkPhase.DOWN or link.probing or ctx.now_s < link.probe_at_s
    # The probe goes out through the api child and back through the reverse child, and the hairpin if there is one.
    is_closed = state.config.connection is Connection.SSH and state.api.logged_in_at_s is None
    is_closed |= link.any_port and not state.hairpin.lets_in
    if is_idle or is_closed or state.exit_decision or not is_probed(state, Purpose.REVERSE):
        return state
    effects.append(ProbeReverse(link.generation, state.candidate, ctx.policy.probe_timeout_s, state.address))
    return replace(state, reverse=replace(link, probing=True))
