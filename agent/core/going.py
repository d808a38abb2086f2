"""How the agent leaves: it offers nothing, says goodbye within a bound, and ends."""

from __future__ import annotations

from dataclasses import replace

from agent.core import offer
from agent.core.events import GoAsked
from agent.core.moment import Moment
from agent.core.worker import Call, CallKind, Ending, Going, GoingKind, Phase, Worker
from agent.errors import Exit


def on_asked(worker: Worker, event: GoAsked, at: Moment) -> Worker:
    """Begin to leave. Asked a second time to stop, end at once."""
    if worker.going is not None:
        if event.kind is GoingKind.STOP and worker.going.kind is GoingKind.STOP:
            return replace(worker, ending=Ending(Exit.OK, f"{event.reason}, asked twice"))
        return (
            replace(worker, going=_sooner(worker.going, event, at))
            if event.kind is GoingKind.STOP
            else worker
        )
    return replace(
        worker, going=_begin(event, at), call=_last_call(worker.call, at), call_retry_at_s=at.now_s
    )


def _last_call(call: Call | None, at: Moment) -> Call | None:
    """What is in flight is waited for, so that the farewell is the last thing that the gateway hears.

    A keepalive gets half of the time for saying goodbye; nothing follows the check of route and token.
    """
    if call is None or call.kind is CallKind.CHECK:
        return None
    if call.kind is CallKind.KEEPALIVE:
        return replace(call, deadline_at_s=min(call.deadline_at_s, at.now_s + at.policy.farewell_s / 2))
    return call


def _begin(event: GoAsked, at: Moment) -> Going:
    bound_s = at.policy.farewell_s if event.kind is GoingKind.STOP else at.policy.hand_over_s
    return Going(event.kind, at.now_s, at.now_s + bound_s, event.reason)


def _sooner(going: Going, event: GoAsked, at: Moment) -> Going:
    """To stop instead of handing over: another way to leave, by no later a moment."""
    begun = _begin(event, at)
    return replace(begun, deadline_at_s=min(going.deadline_at_s, begun.deadline_at_s))


def manage(worker: Worker, at: Moment) -> Worker:
    """End when everything is said, or when the bound is reached."""
    going = worker.going
    if going is None or worker.ending is not None:
        return worker
    if _all_said(worker) or at.now_s >= going.deadline_at_s:
        return replace(worker, ending=Ending(Exit.OK, going.reason))
    return worker


def _all_said(worker: Worker) -> bool:
    going = worker.going
    if going is None or worker.call is not None:
        return False
    # Where the gateway does not know us there is nothing to take back; registering would bring back a machine
    # that somebody deleted.
    if not worker.registration.known:
        return True
    if going.kind is GoingKind.STOP:
        return going.farewell_done
    nothing = worker.registration.promise == offer.promise(worker) and not worker.offer.offered
    # A hand-over leaves the lease fresh: the next agent needs the time to start.
    kept = worker.lease.last_ok_s is not None and worker.lease.last_ok_s >= going.since_s
    return nothing and (kept or worker.api.phase is not Phase.UP)
