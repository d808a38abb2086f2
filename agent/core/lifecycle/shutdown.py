"""Shutdown requests: how a second request merges with the first, and when shutdown is complete.

What happens in between (cordon, workers, the stop marker) is in drain.py; what the gateway hears is in
machine_api/calls.py.
"""

from __future__ import annotations

import math
from dataclasses import replace

from agent.core.context import Context
from agent.core.events import NoticeKind, NoticeReceived, ShutdownRequested
from agent.core.lifecycle import exits
from agent.core.lifecycle.model import DrainPhase, Shutdown, ShutdownKind
from agent.core.machine_api import offer
from agent.core.machine_api.farewell import farewell_sent
from agent.core.machine_api.model import Call, CallKind
from agent.core.state import AgentState
from agent.core.tunnel.model import LinkPhase

DRIVER_APPEARED = ShutdownRequested(
    ShutdownKind.HAND_OVER, "the NVIDIA driver is loaded now: a new container finds it", restart=True
)
_LEAVES = frozenset({ShutdownKind.LEAVE, ShutdownKind.LEAVE_IDLE})


def on_requested(state: AgentState, event: ShutdownRequested, ctx: Context) -> AgentState:
    """A signal, or a person's request. A second request to stop ends the process at once."""
    # Even without time for workers, the gateway is told that the machine goes.
    drain_s = max(ctx.policy.drain_timeout_s, ctx.policy.farewell_s)
    bounds_s = {ShutdownKind.HAND_OVER: ctx.policy.hand_over_s, ShutdownKind.LEAVE_IDLE: math.inf}
    request = Shutdown(
        event.kind,
        ctx.now_s,
        ctx.now_s + bounds_s.get(event.kind, drain_s),
        event.reason,
        phase_since_s=ctx.now_s,
        stops=int(event.kind is ShutdownKind.STOP),
        mark=event.kind in _LEAVES,
        restart=event.restart,
    )
    return _begin_or_merge(state, request, ctx)


def on_notice(state: AgentState, event: NoticeReceived, ctx: Context) -> AgentState:
    """The cloud announced a termination, which is a request, or a recommendation, which only withdraws the offer."""
    if event.kind is not NoticeKind.TERMINATE:
        return replace(state, rebalance=event.reason if event.kind is NoticeKind.REBALANCE else None)
    deadline_at_s = event.deadline_at_s
    if deadline_at_s is None:
        deadline_at_s = ctx.now_s + ctx.policy.notice_s
    request = Shutdown(
        ShutdownKind.TERMINATE,
        ctx.now_s,
        max(ctx.now_s, deadline_at_s),
        event.reason,
        phase_since_s=ctx.now_s,
        mark=not event.comes_back,
    )
    return _begin_or_merge(state, request, ctx)


def _begin_or_merge(state: AgentState, request: Shutdown, ctx: Context) -> AgentState:
    shutdown = state.shutdown
    if shutdown is None:
        return replace(
            state,
            shutdown=request,
            call=_last_call(state.call, ctx),
            call_retry_at_s=ctx.now_s,
            node_drain=state.node_drain.recounted(ctx.now_s),
        )
    if shutdown.stops and request.stops:
        return exits.asked_twice(state, request.reason)
    return replace(state, shutdown=_merged(shutdown, request, ctx))


def _merged(shutdown: Shutdown, request: Shutdown, ctx: Context) -> Shutdown:
    """Two requests: the more urgent kind, the earlier deadline, and a stop marker if either wants one."""
    if request.kind is ShutdownKind.HAND_OVER:
        return shutdown
    both = replace(
        shutdown,
        deadline_at_s=min(shutdown.deadline_at_s, request.deadline_at_s),
        stops=shutdown.stops + request.stops,
        mark=shutdown.mark or request.mark,
    )
    if shutdown.kind is ShutdownKind.HAND_OVER:
        # The next agent learns of a notice by itself; for anything else the few seconds left suffice for a farewell.
        if request.kind is ShutdownKind.TERMINATE:
            return shutdown
        return replace(
            both, kind=request.kind, reason=request.reason, phase=DrainPhase.FAREWELL, phase_since_s=ctx.now_s
        )
    if ShutdownKind.TERMINATE in {request.kind, shutdown.kind}:
        first = shutdown if shutdown.kind is ShutdownKind.TERMINATE else request
        return replace(both, kind=ShutdownKind.TERMINATE, reason=first.reason)
    kinds = {shutdown.kind, request.kind}
    if kinds == {ShutdownKind.LEAVE_IDLE}:
        return both
    return replace(both, kind=ShutdownKind.LEAVE if kinds & _LEAVES else ShutdownKind.STOP)


def _last_call(call: Call | None, ctx: Context) -> Call | None:
    """Wait for the call in flight, so that whatever is sent from now on is the last thing that the gateway hears.

    A keepalive gets half of the time for the farewell; nothing depends on the check of route and token.
    """
    if call is None or call.kind is CallKind.CHECK:
        return None
    if call.kind is CallKind.KEEPALIVE:
        return replace(call, deadline_at_s=min(call.deadline_at_s, ctx.now_s + ctx.policy.farewell_s / 2))
    return call


def manage(state: AgentState, ctx: Context) -> AgentState:
    """End the process when shutdown is complete, or when its deadline has come."""
    shutdown = state.shutdown
    if shutdown is None or state.exit_decision is not None:
        return state
    if _is_complete(state, shutdown) or ctx.now_s >= shutdown.deadline_at_s:
        return exits.left(state, shutdown)
    return state


def _is_complete(state: AgentState, shutdown: Shutdown) -> bool:
    if state.call is not None:
        return False
    if shutdown.kind is ShutdownKind.HAND_OVER:
        return _is_handed_over(state, shutdown)
    is_marked = shutdown.marked or not shutdown.mark
    is_empty = shutdown.phase is DrainPhase.FAREWELL and not state.node_drain.cordoning
    return is_empty and is_marked and farewell_sent(state)


def _is_handed_over(state: AgentState, shutdown: Shutdown) -> bool:
    """The offer is withdrawn, and the lease is fresh: the next agent needs that time to start."""
    if not state.registration.known:
        return True
    is_withdrawn = not state.offer.offered and state.registration.advertisement == offer.advertisement(state)
    last_ok_s = state.lease.last_ok_s
    is_fresh = last_ok_s is not None and last_ok_s >= shutdown.since_s
    return is_withdrawn and (is_fresh or state.api.phase is not LinkPhase.UP)
