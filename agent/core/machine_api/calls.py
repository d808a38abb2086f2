"""Which call the gateway gets next, and what its answer means. One call at a time, so none overtakes another."""

from __future__ import annotations

from dataclasses import replace

from agent.core.backoff import between_s, full_jitter_s
from agent.core.config import K3sMode
from agent.core.context import Context
from agent.core.effects import CallGateway, Effect
from agent.core.events import CallEnded
from agent.core.lifecycle import exits as fatal
from agent.core.lifecycle.model import DrainPhase, Shutdown, ShutdownKind
from agent.core.machine_api import offer
from agent.core.machine_api.model import Call, CallKind, Lease
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.state import AgentState
from agent.core.tunnel.model import LinkPhase

_CALL_SLACK_S = 2.0
"""The adapter ends a call by itself; this much later the core stops believing that it will."""


def manage(worker: AgentState, at: Context) -> tuple[AgentState, list[Effect]]:
    """Make the next call if one is due; give up on one that outlived its time limit."""
    if worker.call is not None and at.now_s >= worker.call.deadline_at_s:
        text = f"{worker.call.kind.value}: no end after its time limit"
        worker = on_ended(worker, CallEnded(worker.call.call_id, Outcome(OutcomeKind.NO_ANSWER, text)), at)
    if _lease_ran_out(worker, at):
        worker = _unknown_to_gateway(worker)
    if worker.call is not None or worker.ending is not None or worker.api.phase is not LinkPhase.UP:
        return worker, []
    kind = next_kind(worker, at) if at.now_s >= worker.call_retry_at_s else None
    return (worker, []) if kind is None else _call(worker, kind, at)


def next_kind(worker: AgentState, at: Context) -> CallKind | None:
    """The call that is due now, if any."""
    if worker.going is not None and not _may_speak(worker, worker.going):
        return None
    if worker.going is not None and worker.going.step is DrainPhase.FAREWELL:
        return None if farewell_sent(worker) else CallKind.FAREWELL
    if not worker.registration.checked:
        return CallKind.CHECK
    if needs_registration(worker, at):
        return CallKind.REGISTER if may_register(worker, at) else None
    if at.now_s >= worker.lease.next_at_s and may_keep_alive(worker) and not _is_looking(worker):
        return CallKind.KEEPALIVE
    return None


def _is_looking(worker: AgentState) -> bool:
    """Perhaps there is nothing to wait for: then the registration that withdraws the offer is the last word."""
    going = worker.going
    return going is not None and going.kind is not ShutdownKind.HAND_OVER and going.step is DrainPhase.LOOKING


def _may_speak(worker: AgentState, going: Shutdown) -> bool:
    """Where the gateway does not know us there is nothing to take back, and registering would bring back a machine
    that somebody deleted. Only waiting for hours needs the lease.
    """
    waits = going.step is DrainPhase.WAITING and worker.registration.times > 0
    return worker.registration.known or waits


def farewell_sent(worker: AgentState) -> bool:
    """Whether the last thing that the gateway heard of us is a registration that offers nothing."""
    registration, going = worker.registration, worker.going
    if going is None or not registration.known:
        return True
    nothing = registration.promise is not None and not registration.promise.offered
    return nothing and registration.quiet and registration.at_s >= going.since_s


def needs_registration(worker: AgentState, at: Context) -> bool:
    """The gateway does not know us, knows something else of us, or is about to forget a silent registration."""
    if not offer.is_told(worker):
        return True
    silent = not may_keep_alive(worker)
    return silent and at.now_s - worker.registration.at_s >= at.policy.ttl_s * 2 / 3


def may_register(worker: AgentState, at: Context) -> bool:
    """Registering waits, bounded, until it would say the truth."""
    if worker.host is None or not worker.kube.looked:
        return False
    before = worker.registration.times > 0
    if not before and worker.setup.k3s is K3sMode.REQUIRED and not worker.kube.answering:
        return False
    if not before and offer.gpus_awaited(worker) and at.now_s - worker.born_at_s < at.policy.gpu_wait_s:
        return False
    if offer.path_expected(worker) and worker.reverse.phase is not LinkPhase.UP and not worker.setup.once:
        since_s = worker.api.up_since_s
        # Forgotten during an outage, it comes back a moment after the api link, so that one registration tells all.
        forgotten = before and not worker.registration.known and worker.kube.answering
        wait_s = at.policy.path_grace_s if forgotten else 0.0 if before else at.policy.reverse_wait_s
        return since_s is not None and at.now_s - since_s >= wait_s
    if offer.address_expected(worker) and worker.reverse.phase is not LinkPhase.UP:
        # A moment, so that one registration tells all: the gateway may take 5 s for each.
        since_s = worker.api.up_since_s
        return since_s is not None and at.now_s - since_s >= at.policy.path_grace_s
    return True


def may_keep_alive(worker: AgentState) -> bool:
    """A keepalive makes the machine ready, so none is sent before work could have reached it once."""
    if not worker.registration.known:
        return False
    waits = offer.path_expected(worker) and not worker.path_verified and not worker.setup.once
    return not waits or worker.lease.ready


def _lease_ran_out(worker: AgentState, at: Context) -> bool:
    expires_at_s = worker.lease.expires_at_s
    return worker.registration.known and expires_at_s is not None and at.now_s >= expires_at_s


def _unknown_to_gateway(worker: AgentState) -> AgentState:
    return replace(
        worker,
        registration=replace(worker.registration, known=False),
        lease=replace(worker.lease, ready=False, expires_at_s=None),
    )


def _call(worker: AgentState, kind: CallKind, at: Context) -> tuple[AgentState, list[Effect]]:
    policy = at.policy
    timeout_s = (
        policy.keepalive_timeout_s
        if kind in {CallKind.CHECK, CallKind.KEEPALIVE}
        else policy.register_timeout_s
    )
    call_id = worker.calls + 1
    promise = offer.promise(worker) if kind in {CallKind.REGISTER, CallKind.FAREWELL} else None
    call = Call(call_id, kind, at.now_s + timeout_s + _CALL_SLACK_S, promise)
    command = CallGateway(call_id, kind, timeout_s, promise, fresh_secret=worker.refused)
    if kind is CallKind.KEEPALIVE:
        worker = replace(worker, registration=replace(worker.registration, quiet=False))
    return replace(worker, call=call, calls=call_id), [command]


def on_ended(worker: AgentState, event: CallEnded, at: Context) -> AgentState:
    """A call ended. The answer to one we gave up on is stale."""
    call = worker.call
    if call is None or call.call_id != event.call_id:
        return worker
    worker = replace(worker, call=None)
    if event.outcome.kind is OutcomeKind.OK:
        worker = replace(worker, misses=0, refused=False, call_retry_at_s=at.now_s)
        return _succeeded(worker, call, event.outcome, at)
    return _failed(worker, call, event.outcome, at)


def _succeeded(worker: AgentState, call: Call, outcome: Outcome, at: Context) -> AgentState:
    ttl_s = outcome.ttl_s or at.policy.ttl_s
    if call.kind is CallKind.CHECK:
        return replace(worker, registration=replace(worker.registration, checked=True))
    if call.kind is CallKind.KEEPALIVE:
        lease = _renewed(worker.lease, ttl_s, at)
        return fatal.after_keepalive(replace(worker, lease=lease))
    registration = replace(
        worker.registration,
        known=True,
        times=worker.registration.times + 1,
        promise=call.promise,
        at_s=at.now_s,
        gateway_config=outcome.gateway_config,
        quiet=True,
    )
    floor = worker.gpu_floor
    if call.promise is not None and call.promise.offered:
        floor = max(floor, call.promise.capacity.gpu_count)
    # The gateway places nothing on a machine that is only registered: a keepalive follows at once.
    lease = replace(worker.lease, expires_at_s=at.now_s + ttl_s, next_at_s=at.now_s)
    return replace(worker, registration=registration, lease=lease, gpu_floor=floor)


def _renewed(lease: Lease, ttl_s: float, at: Context) -> Lease:
    # A gateway with a shorter lease than ours is obeyed; the jitter keeps a fleet from marching in step.
    interval_s = min(at.policy.keepalive_interval_s, ttl_s / 3)
    return replace(
        lease,
        ready=True,
        last_ok_s=at.now_s,
        expires_at_s=at.now_s + ttl_s,
        next_at_s=at.now_s + interval_s * between_s(0.9, 1.0, at.jitter),
        oks=lease.oks + 1,
        failures=0,
    )


def _failed(worker: AgentState, call: Call, outcome: Outcome, at: Context) -> AgentState:
    worker = replace(
        worker,
        misses=worker.misses + 1,
        last_error=outcome.text,
        last_error_at_s=at.now_s,
        call_retry_at_s=at.now_s + pause_s(worker, outcome, at),
        refused=outcome.kind in fatal.REFUSALS,
    )
    if call.kind is CallKind.KEEPALIVE:
        lease = worker.lease
        worker = replace(worker, lease=replace(lease, failures=lease.failures + 1, failed=lease.failed + 1))
    else:
        registration = worker.registration
        worker = replace(worker, registration=replace(registration, failures=registration.failures + 1))
    if outcome.kind is OutcomeKind.MACHINE_NOT_FOUND:
        return _unknown_to_gateway(worker)
    return fatal.after_refusal(worker, outcome)


def pause_s(worker: AgentState, outcome: Outcome, at: Context) -> float:
    """Seconds before the next call after this failure: soon, since the lease runs, unless we were refused."""
    policy = at.policy
    if outcome.kind is OutcomeKind.MACHINE_NOT_FOUND:
        return 0.0
    if worker.going is not None:
        return policy.keepalive_retry_s / 4
    if outcome.kind in fatal.REFUSALS:
        return between_s(policy.refused_retry_s / 4, policy.refused_retry_s, at.jitter)
    soon_s = full_jitter_s(worker.misses, policy.keepalive_retry_s, policy.call_retry_cap_s, at.jitter)
    if outcome.retry_after_s is None:
        return soon_s
    left_s = (worker.lease.expires_at_s or at.now_s + policy.ttl_s) - at.now_s
    # Honoured, but never past the lease: half of what is left leaves room for more attempts.
    return max(soon_s, min(outcome.retry_after_s, left_s / 2))
