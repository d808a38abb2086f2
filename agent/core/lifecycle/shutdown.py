"""Who may ask the agent to leave, what a second wish changes, and when the end is reached.

What happens in between (cordon, workers, the stop marker) is drain's; what the gateway hears is calls'.
"""

from __future__ import annotations

import math
from dataclasses import replace

from agent.core.context import Context
from agent.core.events import NoticeKind, NoticeReceived, ShutdownRequested
from agent.core.lifecycle import exits as fatal
from agent.core.lifecycle.model import DrainPhase, Shutdown, ShutdownKind
from agent.core.machine_api import calls, offer
from agent.core.machine_api.model import Call, CallKind
from agent.core.state import AgentState
from agent.core.tunnel.model import LinkPhase

_LEAVES = frozenset({ShutdownKind.LEAVE, ShutdownKind.LEAVE_IDLE})


def on_requested(worker: AgentState, event: ShutdownRequested, at: Context) -> AgentState:
    """A signal, or a person. Asked a second time to stop, end at once."""
    bound_s = {ShutdownKind.HAND_OVER: at.policy.hand_over_s, ShutdownKind.LEAVE_IDLE: math.inf}
    # Without time for workers there is still a word to say to the gateway.
    drain_s = max(at.policy.drain_timeout_s, at.policy.farewell_s)
    deadline_at_s = at.now_s + bound_s.get(event.kind, drain_s)
    wish = Shutdown(
        event.kind,
        at.now_s,
        deadline_at_s,
        event.reason,
        step_at_s=at.now_s,
        stops=int(event.kind is ShutdownKind.STOP),
        mark=event.kind in _LEAVES,
    )
    return _go(worker, wish, at)


def on_notice(worker: AgentState, event: NoticeReceived, at: Context) -> AgentState:
    """The cloud. Its notice is a wish like any other; a recommendation only withdraws the offer (see offer)."""
    if event.kind is not NoticeKind.TERMINATE:
        return replace(worker, rebalance=event.reason if event.kind is NoticeKind.REBALANCE else None)
    named_s = at.now_s + at.policy.notice_s if event.deadline_at_s is None else event.deadline_at_s
    wish = Shutdown(
        ShutdownKind.TERMINATE,
        at.now_s,
        max(at.now_s, named_s),
        event.reason,
        step_at_s=at.now_s,
        mark=not event.comes_back,
    )
    return _go(worker, wish, at)


def _go(worker: AgentState, wish: Shutdown, at: Context) -> AgentState:
    going = worker.going
    if going is None:
        begun = replace(worker, going=wish, call=_last_call(worker.call, at), call_retry_at_s=at.now_s)
        # Whatever was counted before does not tell what runs now.
        return replace(
            begun, room=replace(worker.room, workers=None, asking=False, ask_at_s=at.now_s, trouble=None)
        )
    if going.stops and wish.stops:
        return fatal.asked_twice(worker, wish.reason)
    return replace(worker, going=_joined(going, wish, at))


def _joined(going: Shutdown, wish: Shutdown, at: Context) -> Shutdown:
    """Two wishes: the more pressing kind, the nearer deadline, and whatever either wants remembered."""
    if wish.kind is ShutdownKind.HAND_OVER:
        return going
    both = replace(
        going,
        deadline_at_s=min(going.deadline_at_s, wish.deadline_at_s),
        stops=going.stops + wish.stops,
        mark=going.mark or wish.mark,
    )
    if going.kind is ShutdownKind.HAND_OVER:
        # Its few seconds suffice for a word to the gateway. Of a notice the next agent learns by itself.
        if wish.kind is ShutdownKind.TERMINATE:
            return going
        return replace(both, kind=wish.kind, reason=wish.reason, step=DrainPhase.FAREWELL, step_at_s=at.now_s)
    if wish.kind is ShutdownKind.TERMINATE or going.kind is ShutdownKind.TERMINATE:
        told = wish if going.kind is not ShutdownKind.TERMINATE else going
        return replace(both, kind=ShutdownKind.TERMINATE, reason=told.reason)
    kinds = {going.kind, wish.kind}
    if kinds == {ShutdownKind.LEAVE_IDLE}:
        return both
    kind = ShutdownKind.LEAVE if kinds & _LEAVES else ShutdownKind.STOP
    return replace(both, kind=kind)


def _last_call(call: Call | None, at: Context) -> Call | None:
    """What is in flight is waited for, so that what is said from now on is the last thing that the gateway hears.

    A keepalive gets half of the time for saying goodbye; nothing follows the check of route and token.
    """
    if call is None or call.kind is CallKind.CHECK:
        return None
    if call.kind is CallKind.KEEPALIVE:
        return replace(call, deadline_at_s=min(call.deadline_at_s, at.now_s + at.policy.farewell_s / 2))
    return call


def manage(worker: AgentState, at: Context) -> AgentState:
    """End when everything is said and done, or when the bound is reached."""
    going = worker.going
    if going is None or worker.ending is not None:
        return worker
    if _all_said(worker, going) or at.now_s >= going.deadline_at_s:
        return fatal.left(worker, going)
    return worker


def _all_said(worker: AgentState, going: Shutdown) -> bool:
    if worker.call is not None:
        return False
    if going.kind is not ShutdownKind.HAND_OVER:
        is_marked = going.marked or not going.mark
        done = going.step is DrainPhase.FAREWELL and is_marked and not worker.room.cordoning
        return done and calls.farewell_sent(worker)
    if not worker.registration.known:
        return True
    nothing = worker.registration.promise == offer.promise(worker) and not worker.offer.offered
    # A hand-over leaves the lease fresh: the next agent needs the time to start.
    kept = worker.lease.last_ok_s is not None and worker.lease.last_ok_s >= going.since_s
    return nothing and (kept or worker.api.phase is not LinkPhase.UP)
