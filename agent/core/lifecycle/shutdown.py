"""Who may ask the agent to leave, what a second wish changes, and when the end is reached.

What happens in between (cordon, workers, the stop marker) is drain's; what the gateway hears is calls'.
"""

from __future__ import annotations

import math
from dataclasses import replace

from agent.core.context import Context
from agent.core.events import NoticeKind, NoticeReceived, ShutdownRequested
from agent.core.lifecycle import exits
from agent.core.lifecycle.model import DrainPhase, Shutdown, ShutdownKind
from agent.core.machine_api import calls, offer
from agent.core.machine_api.model import Call, CallKind
from agent.core.state import AgentState
from agent.core.tunnel.model import LinkPhase

_LEAVES = frozenset({ShutdownKind.LEAVE, ShutdownKind.LEAVE_IDLE})


def on_requested(state: AgentState, event: ShutdownRequested, ctx: Context) -> AgentState:
    """A signal, or a person. Asked a second time to stop, end at once."""
    bound_s = {ShutdownKind.HAND_OVER: ctx.policy.hand_over_s, ShutdownKind.LEAVE_IDLE: math.inf}
    # Without time for workers there is still a word to say to the gateway.
    drain_s = max(ctx.policy.drain_timeout_s, ctx.policy.farewell_s)
    deadline_at_s = ctx.now_s + bound_s.get(event.kind, drain_s)
    request = Shutdown(
        event.kind,
        ctx.now_s,
        deadline_at_s,
        event.reason,
        phase_since_s=ctx.now_s,
        stops=int(event.kind is ShutdownKind.STOP),
        mark=event.kind in _LEAVES,
    )
    return _go(state, request, ctx)


def on_notice(state: AgentState, event: NoticeReceived, ctx: Context) -> AgentState:
    """The cloud. Its notice is a wish like any other; a recommendation only withdraws the offer (see offer)."""
    if event.kind is not NoticeKind.TERMINATE:
        return replace(state, rebalance=event.reason if event.kind is NoticeKind.REBALANCE else None)
    named_s = ctx.now_s + ctx.policy.notice_s if event.deadline_at_s is None else event.deadline_at_s
    request = Shutdown(
        ShutdownKind.TERMINATE,
        ctx.now_s,
        max(ctx.now_s, named_s),
        event.reason,
        phase_since_s=ctx.now_s,
        mark=not event.comes_back,
    )
    return _go(state, request, ctx)


def _go(state: AgentState, request: Shutdown, ctx: Context) -> AgentState:
    shutdown = state.shutdown
    if shutdown is None:
        begun = replace(state, shutdown=request, call=_last_call(state.call, ctx), call_retry_at_s=ctx.now_s)
        # Whatever was counted before does not tell what runs now.
        return replace(
            begun,
            node_drain=replace(
                state.node_drain, workers=None, asking=False, ask_at_s=ctx.now_s, list_error=None
            ),
        )
    if shutdown.stops and request.stops:
        return exits.asked_twice(state, request.reason)
    return replace(state, shutdown=_joined(shutdown, request, ctx))


def _joined(shutdown: Shutdown, request: Shutdown, ctx: Context) -> Shutdown:
    """Two wishes: the more pressing kind, the nearer deadline, and whatever either wants remembered."""
    if request.kind is ShutdownKind.HAND_OVER:
        return shutdown
    both = replace(
        shutdown,
        deadline_at_s=min(shutdown.deadline_at_s, request.deadline_at_s),
        stops=shutdown.stops + request.stops,
        mark=shutdown.mark or request.mark,
    )
    if shutdown.kind is ShutdownKind.HAND_OVER:
        # Its few seconds suffice for a word to the gateway. Of a notice the next agent learns by itself.
        if request.kind is ShutdownKind.TERMINATE:
            return shutdown
        return replace(
            both, kind=request.kind, reason=request.reason, phase=DrainPhase.FAREWELL, phase_since_s=ctx.now_s
        )
    if request.kind is ShutdownKind.TERMINATE or shutdown.kind is ShutdownKind.TERMINATE:
        told = request if shutdown.kind is not ShutdownKind.TERMINATE else shutdown
        return replace(both, kind=ShutdownKind.TERMINATE, reason=told.reason)
    kinds = {shutdown.kind, request.kind}
    if kinds == {ShutdownKind.LEAVE_IDLE}:
        return both
    kind = ShutdownKind.LEAVE if kinds & _LEAVES else ShutdownKind.STOP
    return replace(both, kind=kind)


def _last_call(call: Call | None, ctx: Context) -> Call | None:
    """What is in flight is waited for, so that what is said from now on is the last thing that the gateway hears.

    A keepalive gets half of the time for saying goodbye; nothing follows the check of route and token.
    """
    if call is None or call.kind is CallKind.CHECK:
        return None
    if call.kind is CallKind.KEEPALIVE:
        return replace(call, deadline_at_s=min(call.deadline_at_s, ctx.now_s + ctx.policy.farewell_s / 2))
    return call


def manage(state: AgentState, ctx: Context) -> AgentState:
    """End when everything is said and done, or when the bound is reached."""
    shutdown = state.shutdown
    if shutdown is None or state.exit_decision is not None:
        return state
    if _all_said(state, shutdown) or ctx.now_s >= shutdown.deadline_at_s:
        return exits.left(state, shutdown)
    return state


def _all_said(state: AgentState, shutdown: Shutdown) -> bool:
    if state.call is not None:
        return False
    if shutdown.kind is not ShutdownKind.HAND_OVER:
        is_marked = shutdown.marked or not shutdown.mark
        done = shutdown.phase is DrainPhase.FAREWELL and is_marked and not state.node_drain.cordoning
        return done and calls.farewell_sent(state)
    if not state.registration.known:
        return True
    nothing = state.registration.advertisement == offer.advertisement(state) and not state.offer.offered
    # A hand-over leaves the lease fresh: the next agent needs the time to start.
    kept = state.lease.last_ok_s is not None and state.lease.last_ok_s >= shutdown.since_s
    return nothing and (kept or state.api.phase is not LinkPhase.UP)
