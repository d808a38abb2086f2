"""Which call the gateway gets next, and what its answer means. One call at a time, so none overtakes another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.core.backoff import between_s, full_jitter_s
from agent.core.config import K3sMode
from agent.core.context import Context
from agent.core.effects import CallGateway, Effect
from agent.core.events import CallEnded
from agent.core.lifecycle import exits
from agent.core.lifecycle.model import DrainPhase, Shutdown, ShutdownKind
from agent.core.machine_api import offer, wire
from agent.core.machine_api.model import Advertisement, Call, CallKind, Lease
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.state import AgentState
from agent.core.tunnel.model import LinkPhase

_CALL_SLACK_S = 2.0
"""The adapter ends a call by itself; this much later the core stops believing that it will."""


def manage(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    """Make the next call if one is due; give up on one that outlived its time limit."""
    if state.call is not None and ctx.now_s >= state.call.deadline_at_s:
        text = f"{state.call.kind.value}: no end after its time limit"
        state = on_ended(state, CallEnded(state.call.call_id, Outcome(OutcomeKind.NO_ANSWER, text)), ctx)
    if _lease_ran_out(state, ctx):
        state = _unknown_to_gateway(state)
    if state.call is not None or state.exit_decision is not None or state.api.phase is not LinkPhase.UP:
        return state, []
    kind = next_kind(state, ctx) if ctx.now_s >= state.call_retry_at_s else None
    return (state, []) if kind is None else _call(state, kind, ctx)


def next_kind(state: AgentState, ctx: Context) -> CallKind | None:
    """The call that is due now, if any."""
    if state.shutdown is not None and not _may_speak(state, state.shutdown):
        return None
    if state.shutdown is not None and state.shutdown.phase is DrainPhase.FAREWELL:
        return None if farewell_sent(state) else CallKind.FAREWELL
    if not state.registration.checked:
        return CallKind.CHECK
    if needs_registration(state, ctx):
        return CallKind.REGISTER if may_register(state, ctx) else None
    if ctx.now_s >= state.lease.next_at_s and may_keep_alive(state) and not _is_looking(state):
        return CallKind.KEEPALIVE
    return None


def _is_looking(state: AgentState) -> bool:
    """Perhaps there is nothing to wait for: then the registration that withdraws the offer is the last word."""
    shutdown = state.shutdown
    return (
        shutdown is not None
        and shutdown.kind is not ShutdownKind.HAND_OVER
        and shutdown.phase is DrainPhase.LOOKING
    )


def _may_speak(state: AgentState, shutdown: Shutdown) -> bool:
    """Where the gateway does not know us there is nothing to take back, and registering would bring back a machine
    that somebody deleted. Only waiting for hours needs the lease.
    """
    waits = shutdown.phase is DrainPhase.WAITING and state.registration.times > 0
    return state.registration.known or waits


def farewell_sent(state: AgentState) -> bool:
    """Whether the last thing that the gateway heard of us is a registration that offers nothing."""
    registration, shutdown = state.registration, state.shutdown
    if shutdown is None or not registration.known:
        return True
    nothing = registration.advertisement is not None and not registration.advertisement.offered
    return nothing and registration.quiet and registration.at_s >= shutdown.since_s


def needs_registration(state: AgentState, ctx: Context) -> bool:
    """The gateway does not know us, knows something else of us, or is about to forget a silent registration."""
    if not offer.is_told(state):
        return True
    silent = not may_keep_alive(state)
    return silent and ctx.now_s - state.registration.at_s >= ctx.policy.ttl_s * 2 / 3


def may_register(state: AgentState, ctx: Context) -> bool:
    """Registering waits, bounded, until it would say the truth."""
    if state.host is None or not state.kube.looked:
        return False
    before = state.registration.times > 0
    if not before and state.config.k3s is K3sMode.REQUIRED and not state.kube.answering:
        return False
    if not before and offer.gpus_awaited(state) and ctx.now_s - state.born_at_s < ctx.policy.gpu_wait_s:
        return False
    if offer.path_expected(state) and state.reverse.phase is not LinkPhase.UP and not state.config.once:
        since_s = state.api.up_since_s
        # Forgotten during an outage, it comes back a moment after the api link, so that one registration tells all.
        forgotten = before and not state.registration.known and state.kube.answering
        wait_s = ctx.policy.path_grace_s if forgotten else 0.0 if before else ctx.policy.reverse_wait_s
        return since_s is not None and ctx.now_s - since_s >= wait_s
    if offer.address_expected(state) and state.reverse.phase is not LinkPhase.UP:
        # A moment, so that one registration tells all: the gateway may take 5 s for each.
        since_s = state.api.up_since_s
        return since_s is not None and ctx.now_s - since_s >= ctx.policy.path_grace_s
    return True


def may_keep_alive(state: AgentState) -> bool:
    """A keepalive makes the machine ready, so none is sent before work could have reached it once."""
    if not state.registration.known:
        return False
    waits = offer.path_expected(state) and not state.path_verified and not state.config.once
    return not waits or state.lease.ready


def _lease_ran_out(state: AgentState, ctx: Context) -> bool:
    expires_at_s = state.lease.expires_at_s
    return state.registration.known and expires_at_s is not None and ctx.now_s >= expires_at_s


def _unknown_to_gateway(state: AgentState) -> AgentState:
    return replace(
        state,
        registration=replace(state.registration, known=False),
        lease=replace(state.lease, ready=False, expires_at_s=None),
    )


def _call(state: AgentState, kind: CallKind, ctx: Context) -> tuple[AgentState, list[Effect]]:
    policy = ctx.policy
    timeout_s = (
        policy.keepalive_timeout_s
        if kind in {CallKind.CHECK, CallKind.KEEPALIVE}
        else policy.register_timeout_s
    )
    call_id = state.calls + 1
    advertisement = offer.advertisement(state) if kind in {CallKind.REGISTER, CallKind.FAREWELL} else None
    call = Call(call_id, kind, ctx.now_s + timeout_s + _CALL_SLACK_S, advertisement)
    effect = CallGateway(
        call_id, kind, timeout_s, _body(state, kind, advertisement), fresh_secret=state.refused
    )
    if kind is CallKind.KEEPALIVE:
        state = replace(state, registration=replace(state.registration, quiet=False))
    return replace(state, call=call, calls=call_id), [effect]


def _body(state: AgentState, kind: CallKind, advertisement: Advertisement | None) -> dict[str, Any]:
    if advertisement is not None:
        return wire.register_body(state.config, advertisement, state.host.private_ip if state.host else "")
    if kind is CallKind.CHECK:
        return wire.check_body()
    return wire.keepalive_body(state.config, offer.capacity(state), state.host, state.kube.node)


def on_ended(state: AgentState, event: CallEnded, ctx: Context) -> AgentState:
    """A call ended. The answer to one we gave up on is stale."""
    call = state.call
    if call is None or call.call_id != event.call_id:
        return state
    state = replace(state, call=None)
    if event.outcome.kind is OutcomeKind.OK:
        state = replace(state, misses=0, refused=False, call_retry_at_s=ctx.now_s)
        return _succeeded(state, call, event.outcome, ctx)
    return _failed(state, call, event.outcome, ctx)


def _succeeded(state: AgentState, call: Call, outcome: Outcome, ctx: Context) -> AgentState:
    ttl_s = outcome.ttl_s or ctx.policy.ttl_s
    if call.kind is CallKind.CHECK:
        return replace(state, registration=replace(state.registration, checked=True))
    if call.kind is CallKind.KEEPALIVE:
        lease = _renewed(state.lease, ttl_s, ctx)
        return exits.after_keepalive(replace(state, lease=lease))
    registration = replace(
        state.registration,
        known=True,
        times=state.registration.times + 1,
        advertisement=call.advertisement,
        at_s=ctx.now_s,
        gateway_config=outcome.gateway_config,
        quiet=True,
    )
    floor = state.gpu_floor
    if call.advertisement is not None and call.advertisement.offered:
        floor = max(floor, call.advertisement.capacity.gpu_count)
    # The gateway places nothing on a machine that is only registered: a keepalive follows at once.
    lease = replace(state.lease, expires_at_s=ctx.now_s + ttl_s, next_at_s=ctx.now_s)
    return replace(state, registration=registration, lease=lease, gpu_floor=floor)


def _renewed(lease: Lease, ttl_s: float, ctx: Context) -> Lease:
    # A gateway with a shorter lease than ours is obeyed; the jitter keeps a fleet from marching in step.
    interval_s = min(ctx.policy.keepalive_interval_s, ttl_s / 3)
    return replace(
        lease,
        ready=True,
        last_ok_s=ctx.now_s,
        expires_at_s=ctx.now_s + ttl_s,
        next_at_s=ctx.now_s + interval_s * between_s(0.9, 1.0, ctx.jitter),
        oks=lease.oks + 1,
        failures=0,
    )


def _failed(state: AgentState, call: Call, outcome: Outcome, ctx: Context) -> AgentState:
    state = replace(
        state,
        misses=state.misses + 1,
        last_error=outcome.text,
        last_error_at_s=ctx.now_s,
        call_retry_at_s=ctx.now_s + pause_s(state, outcome, ctx),
        refused=outcome.kind in exits.REFUSALS,
    )
    if call.kind is CallKind.KEEPALIVE:
        lease = state.lease
        state = replace(state, lease=replace(lease, failures=lease.failures + 1, failed=lease.failed + 1))
    else:
        registration = state.registration
        state = replace(state, registration=replace(registration, failures=registration.failures + 1))
    if outcome.kind is OutcomeKind.MACHINE_NOT_FOUND:
        return _unknown_to_gateway(state)
    return exits.after_refusal(state, outcome)


def pause_s(state: AgentState, outcome: Outcome, ctx: Context) -> float:
    """Seconds before the next call after this failure: soon, since the lease runs, unless we were refused."""
    policy = ctx.policy
    if outcome.kind is OutcomeKind.MACHINE_NOT_FOUND:
        return 0.0
    if state.shutdown is not None:
        return policy.keepalive_retry_s / 4
    if outcome.kind in exits.REFUSALS:
        return between_s(policy.refused_retry_s / 4, policy.refused_retry_s, ctx.jitter)
    soon_s = full_jitter_s(state.misses, policy.keepalive_retry_s, policy.call_retry_cap_s, ctx.jitter)
    if outcome.retry_after_s is None:
        return soon_s
    left_s = (state.lease.expires_at_s or ctx.now_s + policy.ttl_s) - ctx.now_s
    # Honoured, but never past the lease: half of what is left leaves room for more attempts.
    return max(soon_s, min(outcome.retry_after_s, left_s / 2))
