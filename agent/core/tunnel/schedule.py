"""What is due for the ssh children: which to start, to end, and to ask now."""

from __future__ import annotations

from dataclasses import replace

from agent.core.config import Connection
from agent.core.context import Context
from agent.core.effects import Effect, ProbeApi, ProbeReverse, StartLink, StopLink
from agent.core.state import AgentState
from agent.core.tailnet import login
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase, Purpose
from agent.core.tunnel.transitions import fail, probed, put, wanted


def manage(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    """Start, stop and probe whatever is due now."""
    effects: list[Effect] = []
    for purpose in Purpose:
        state = _manage_one(state, purpose, ctx, effects)
    state = _probe_api(state, ctx, effects)
    return _probe_reverse(state, ctx, effects), effects


def _manage_one(state: AgentState, purpose: Purpose, ctx: Context, effects: list[Effect]) -> AgentState:
    link = state.link(purpose)
    # Its own address in the tailnet is not to be asked while there is no tailnet; the api link says why.
    is_wanted = wanted(state, purpose) and (purpose is Purpose.API or login.is_up(state))
    if not is_wanted and link.phase is not LinkPhase.DOWN:
        state, link = _change(state, purpose, _forgotten(link))
    elif _overdue(state, link, ctx):
        text = f"ssh was not let in after {ctx.policy.start_timeout_s:g} s"
        state = fail(state, purpose, Fault(FaultKind.SILENT, text), ctx)
        link = state.link(purpose)
    if link.phase is LinkPhase.DOWN and link.child:
        effects.append(
            StopLink(purpose, link.generation, link.fault.message if link.fault else "not wanted now")
        )
        state, link = _change(state, purpose, replace(link, child=False))
    if (
        is_wanted
        and link.phase is LinkPhase.DOWN
        and ctx.now_s >= link.retry_at_s
        and _has_turn(state, purpose)
    ):
        return _start(state, purpose, link, ctx, effects)
    return state


def _has_turn(state: AgentState, purpose: Purpose) -> bool:
    """One asks for all: while sshd is out of reach or refuses the key, only the api child tries.

    The first attempt of a start is everybody's at once, for speed. In a tailnet all wait for tailscaled.
    """
    api = state.api
    if state.config.connection is Connection.TAILSCALE:
        return login.is_up(state)
    if purpose is Purpose.API or state.config.connection is not Connection.SSH:
        return True
    return api.phase is not LinkPhase.DOWN and (api.logged_in_at_s is not None or api.generation == 1)


def _forgotten(link: Link) -> Link:
    """A link that is no longer wanted starts afresh when it is wanted again."""
    return replace(
        link,
        phase=LinkPhase.DOWN,
        attempt=0,
        retry_at_s=0.0,
        up_since_s=None,
        logged_in_at_s=None,
        down_since_s=None,
        probing=False,
        silent=0,
        refusals=0,
        fault=None,
        last_complaint=None,
    )


def _change(state: AgentState, purpose: Purpose, link: Link) -> tuple[AgentState, Link]:
    return put(state, purpose, link), link


def _overdue(state: AgentState, link: Link, ctx: Context) -> bool:
    """ssh has a time limit for connecting, none for logging in."""
    waiting = link.phase is LinkPhase.STARTING and link.logged_in_at_s is None
    is_ssh = state.config.connection is Connection.SSH
    return is_ssh and waiting and ctx.now_s - link.started_at_s >= ctx.policy.start_timeout_s


def _start(
    state: AgentState, purpose: Purpose, link: Link, ctx: Context, effects: list[Effect]
) -> AgentState:
    link = replace(
        link,
        phase=LinkPhase.STARTING,
        generation=link.generation + 1,
        started_at_s=ctx.now_s,
        probing=False,
        probe_at_s=ctx.now_s + ctx.policy.start_probe_s,
    )
    if state.config.connection is Connection.SSH:
        link = replace(link, child=True)
        address = state.address if purpose is Purpose.REVERSE else None
        effects.append(StartLink(purpose, link.generation, address, link.session))
    else:
        # There is no child that would have to be let in first.
        link = replace(link, probe_at_s=ctx.now_s, logged_in_at_s=ctx.now_s)
    return put(state, purpose, link)


def _probe_api(state: AgentState, ctx: Context, effects: list[Effect]) -> AgentState:
    link = state.api
    if link.phase is LinkPhase.DOWN or link.probing or ctx.now_s < link.probe_at_s or state.exit_decision:
        return state
    effects.append(ProbeApi(link.generation, ctx.policy.probe_timeout_s, _spare(state)))
    return replace(state, api=replace(link, probing=True))


def _spare(state: AgentState) -> int | None:
    """A candidate address that is not in use, if there is one."""
    count = len(state.config.addresses)
    if count < 2 or state.config.connection is not Connection.SSH:
        return None
    return (state.candidate + count - 1) % count


def _probe_reverse(state: AgentState, ctx: Context, effects: list[Effect]) -> AgentState:
    link = state.reverse
    idle = link.phase is LinkPhase.DOWN or link.probing or ctx.now_s < link.probe_at_s
    is_ssh = state.config.connection is Connection.SSH
    is_closed = is_ssh and state.api.logged_in_at_s is None
    if idle or is_closed or state.exit_decision or not probed(state, Purpose.REVERSE):
        return state
    effects.append(ProbeReverse(link.generation, state.candidate, ctx.policy.probe_timeout_s, state.address))
    return replace(state, reverse=replace(link, probing=True))
