"""What happened to the ssh children themselves: a login, a complaint on stderr, an exit."""

from __future__ import annotations

from dataclasses import replace

from agent.core.context import Context
from agent.core.events import LinkComplained, LinkEnded, LinkLoggedIn
from agent.core.state import AgentState
from agent.core.tunnel.faults import DENIED, FaultKind
from agent.core.tunnel.model import LinkPhase, Purpose
from agent.core.tunnel.transitions import answered, fail, is_probed, with_link

_OF_THE_SERVER = DENIED | {
    FaultKind.REFUSED,
    FaultKind.UNREACHABLE,
    FaultKind.DNS,
    FaultKind.LOST,
    FaultKind.SILENT,
    FaultKind.SECRET,
}
"""Faults on the way to sshd, which all children share: a login of one of them means that the others may try."""


def on_logged_in(state: AgentState, event: LinkLoggedIn, ctx: Context) -> AgentState:
    """sshd let the child in."""
    link = state.link(event.purpose)
    if event.generation != link.generation or link.phase is LinkPhase.DOWN:
        return state
    # The forwards are set up within a round trip of the login, so probe at once.
    link = replace(link, logged_in_at_s=ctx.now_s, probe_at_s=ctx.now_s)
    state = replace(state, denied_at_s=None)
    if event.purpose is Purpose.API:
        state = _retry_others(state, ctx)
    link = link if is_probed(state, event.purpose) else answered(link, None, ctx)
    return with_link(state, event.purpose, link)


def _retry_others(state: AgentState, ctx: Context) -> AgentState:
    """The way to sshd is open and the key is good: the links that waited only for that start now."""
    for purpose in (Purpose.REVERSE, Purpose.DATA):
        link = state.link(purpose)
        if link.phase is LinkPhase.DOWN and link.fault is not None and link.fault.kind in _OF_THE_SERVER:
            state = with_link(state, purpose, replace(link, retry_at_s=ctx.now_s))
    return state


def on_complained(state: AgentState, event: LinkComplained, _ctx: Context) -> AgentState:
    """Keep the complaint; it is shown only if a probe then finds the forward closed."""
    link = state.link(event.purpose)
    if event.generation != link.generation:
        return state
    # What a key may open is settled at the login, so this complaint holds as long as the child; others pass.
    if link.last_complaint is not None and link.last_complaint.kind is FaultKind.PERMIT_OPEN:
        return state
    return with_link(state, event.purpose, replace(link, last_complaint=event.fault))


def on_ended(state: AgentState, event: LinkEnded, ctx: Context) -> AgentState:
    """A child has exited. One of an earlier generation was stopped by the agent itself."""
    link = state.link(event.purpose)
    if event.generation != link.generation or link.phase is LinkPhase.DOWN:
        return state
    state = with_link(state, event.purpose, replace(link, child=False))
    return fail(state, event.purpose, event.fault, ctx)
