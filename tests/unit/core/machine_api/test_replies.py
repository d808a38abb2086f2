"""What the gateway's answers change, and how long the next call waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.context import Context
from agent.core.events import CallEnded
from agent.core.machine_api import replies
from agent.core.machine_api.model import Advertisement, Call, CallKind, Capacity, Lease, Registration
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.state import AgentState
from tests.unit.core_cases import ADDRESSES, AT, NOW_S, POLICY, placeable

ALL = Advertisement(ADDRESSES[0], Capacity(7500, 15360, 2), offered=True)


def after(kind: CallKind, outcome: Outcome, state: AgentState | None = None) -> AgentState:
    state = state or placeable(
        registration=Registration(True, True, 1), lease=Lease(expires_at_s=NOW_S + 200)
    )
    state = replace(state, call=Call(7, kind, NOW_S + 10, ALL if kind is CallKind.REGISTER else None))
    return replies.on_ended(state, CallEnded(7, outcome), AT)


def test_the_answer_to_a_call_that_was_given_up_changes_nothing() -> None:
    state = placeable(call=Call(8, CallKind.KEEPALIVE, NOW_S + 10))
    assert replies.on_ended(state, CallEnded(7, Outcome(OutcomeKind.OK)), AT) is state


def test_a_keepalive_renews_the_lease_and_jitters_the_next() -> None:
    state = after(CallKind.KEEPALIVE, Outcome(OutcomeKind.OK, ttl_s=300.0))
    assert state.lease.ready
    assert state.lease.expires_at_s == NOW_S + 300
    assert NOW_S + 54 <= state.lease.next_at_s <= NOW_S + 60


def test_a_shorter_lease_of_the_gateway_shortens_the_interval() -> None:
    state = after(CallKind.KEEPALIVE, Outcome(OutcomeKind.OK, ttl_s=30.0))
    assert NOW_S + 9 <= state.lease.next_at_s <= NOW_S + 10


def test_a_registration_is_followed_by_a_keepalive_at_once_and_keeps_the_count_of_gpus() -> None:
    state = after(CallKind.REGISTER, Outcome(OutcomeKind.OK, ttl_s=300.0, gateway_config=True))
    assert (state.registration.times, state.registration.advertisement) == (2, ALL)
    assert (state.lease.next_at_s, state.gpu_floor) == (NOW_S, 2)


def test_a_machine_that_the_gateway_does_not_know_registers_again_without_a_pause() -> None:
    state = after(CallKind.KEEPALIVE, Outcome(OutcomeKind.MACHINE_NOT_FOUND, "machine not found"))
    assert not state.registration.known
    assert not state.lease.ready
    assert state.call_retry_at_s == NOW_S


def test_a_refusal_resolves_the_token_again_before_the_next_call() -> None:
    state = after(CallKind.KEEPALIVE, Outcome(OutcomeKind.UNAUTHORIZED, "401"))
    assert state.refused
    assert POLICY.refused_retry_s / 4 <= state.call_retry_at_s - NOW_S <= POLICY.refused_retry_s
    assert not after(CallKind.KEEPALIVE, Outcome(OutcomeKind.OK), state).refused


@pytest.mark.parametrize(("asked_s", "waited_s"), [(20.0, 20.0), (10_000.0, 100.0)])
def test_retry_after_is_honoured_but_never_past_the_lease(asked_s: float, waited_s: float) -> None:
    outcome = Outcome(OutcomeKind.SLOW_DOWN, "429", retry_after_s=asked_s)
    assert after(CallKind.KEEPALIVE, outcome).call_retry_at_s == NOW_S + waited_s


def test_failures_are_counted_in_a_row_and_in_all() -> None:
    state = after(CallKind.KEEPALIVE, Outcome(OutcomeKind.NO_ANSWER, "no answer"))
    state = after(CallKind.KEEPALIVE, Outcome(OutcomeKind.NO_ANSWER, "no answer"), state)
    assert (state.misses, state.lease.failures, state.lease.failed) == (2, 2, 2)
    state = after(CallKind.KEEPALIVE, Outcome(OutcomeKind.OK), state)
    assert (state.misses, state.lease.failures, state.lease.failed) == (0, 0, 2)


def test_the_pause_grows_with_the_failures_up_to_its_cap() -> None:
    late = Context(NOW_S, POLICY, 0.999)
    outcome = Outcome(OutcomeKind.GATEWAY_ERROR, "502")
    pauses = [replies.pause_s(placeable(misses=n), outcome, late) for n in range(8)]
    assert pauses == sorted(pauses)
    assert pauses[-1] <= POLICY.call_retry_cap_s
