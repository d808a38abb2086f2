"""What the gateway's answers change: the registration, the lease, and the pause before the next call."""

from __future__ import annotations

from dataclasses import replace

from agent.core.backoff import between_s, full_jitter_s
from agent.core.context import Context
from agent.core.events import CallEnded
from agent.core.lifecycle import exits
from agent.core.machine_api.lease import renewed
from agent.core.machine_api.model import Call, CallKind
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.state import AgentState


def on_ended(state: AgentState, event: CallEnded, ctx: Context) -> AgentState:
    """A call ended. The answer to one that was given up is ignored."""
    call = state.call
    if call is None or call.call_id != event.call_id:
        return state
    state = replace(state, call=None)
    if event.outcome.kind is OutcomeKind.OK:
        state = replace(state, misses=0, refused=False, call_retry_at_s=ctx.now_s)
        return _succeeded(state, call, event.outcome, ctx)
    return _failed(state, call, event.outcome, ctx)


def _succeeded(state: AgentState, call: Call, outcome: Outcome, ctx: Context) -> AgentState:
    if call.kind is CallKind.CHECK:
        return replace(state, registration=replace(state.registration, checked=True))
    ttl_s = outcome.ttl_s or ctx.policy.ttl_s
    if call.kind is CallKind.KEEPALIVE:
        return exits.after_keepalive(replace(state, lease=renewed(state.lease, ttl_s, ctx)))
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
        return forgotten_by_gateway(state)
    return exits.after_refusal(state, outcome)


def forgotten_by_gateway(state: AgentState) -> AgentState:
    """Return the state of a machine that the gateway no longer knows: `machine not found`, or an expired lease."""
    return replace(
        state,
        registration=replace(state.registration, known=False),
        lease=replace(state.lease, ready=False, expires_at_s=None),
    )


def pause_s(state: AgentState, outcome: Outcome, ctx: Context) -> float:
    """Return the seconds before the next call after this failure: few, since the lease runs, unless it was refused."""
    policy = ctx.policy
    if outcome.kind is OutcomeKind.MACHINE_NOT_FOUND:
        return 0.0
    if state.shutdown is not None:
        return policy.keepalive_retry_s / 4
    if outcome.kind in exits.REFUSALS:
        return between_s(policy.refused_retry_s / 4, policy.refused_retry_s, ctx.jitter)
    backoff_s = full_jitter_s(state.misses, policy.keepalive_retry_s, policy.call_retry_cap_s, ctx.jitter)
    if outcome.retry_after_s is None:
        return backoff_s
    left_s = (state.lease.expires_at_s or ctx.now_s + policy.ttl_s) - ctx.now_s
    # Retry-After is honoured, but never past the lease: half of what is left leaves room for more attempts.
    return max(backoff_s, min(outcome.retry_after_s, left_s / 2))
