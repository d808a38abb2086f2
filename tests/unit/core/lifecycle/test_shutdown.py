"""Shutdown requests: what each asks for, and how a second one merges with the first."""

from __future__ import annotations

import math

import pytest

from agent.core.events import FactsRead, NoticeKind, NoticeReceived, ShutdownRequested
from agent.core.host.facts import GpuReading
from agent.core.lifecycle import shutdown
from agent.core.lifecycle.model import DrainPhase, ShutdownKind
from agent.core.machine_api.model import Call, CallKind
from agent.core.state import AgentState
from agent.core.step import step
from tests.unit.core_cases import AT, NOW_S, POLICY, placeable

Kind = ShutdownKind


def asked(*kinds: ShutdownKind, state: AgentState | None = None) -> AgentState:
    state = state or placeable()
    for kind in kinds:
        state = shutdown.on_requested(state, ShutdownRequested(kind, kind.value), AT)
    return state


@pytest.mark.parametrize(
    ("kind", "bound_s"),
    [
        (Kind.STOP, 90.0),
        (Kind.LEAVE, 90.0),
        (Kind.HAND_OVER, POLICY.hand_over_s),
        (Kind.LEAVE_IDLE, math.inf),
    ],
)
def test_each_kind_has_its_bound(kind: ShutdownKind, bound_s: float) -> None:
    found = asked(kind).shutdown
    assert found is not None
    assert found.deadline_at_s == NOW_S + bound_s


@pytest.mark.parametrize(
    ("first", "second", "kind", "mark"),
    [
        (Kind.STOP, Kind.LEAVE, Kind.LEAVE, True),
        (Kind.LEAVE, Kind.STOP, Kind.LEAVE, True),
        (Kind.LEAVE_IDLE, Kind.STOP, Kind.LEAVE, True),
        (Kind.LEAVE_IDLE, Kind.LEAVE_IDLE, Kind.LEAVE_IDLE, True),
        (Kind.STOP, Kind.HAND_OVER, Kind.STOP, False),
        (Kind.HAND_OVER, Kind.STOP, Kind.STOP, False),
    ],
)
def test_two_requests_merge(
    first: ShutdownKind, second: ShutdownKind, kind: ShutdownKind, mark: bool
) -> None:
    before, after = asked(first).shutdown, asked(first, second).shutdown
    assert before is not None
    assert after is not None
    assert (after.kind, after.mark) == (kind, mark)
    assert after.deadline_at_s <= before.deadline_at_s


def test_a_second_signal_ends_the_process_at_once() -> None:
    assert asked(Kind.STOP).exit_decision is None
    assert asked(Kind.STOP, Kind.STOP).exit_decision is not None


def test_a_request_during_a_hand_over_leaves_time_for_a_farewell_only() -> None:
    found = asked(Kind.HAND_OVER, Kind.LEAVE).shutdown
    assert found is not None
    assert found.phase is DrainPhase.FAREWELL


def test_a_driver_that_is_loaded_late_ends_this_container_for_another() -> None:
    late = FactsRead(None, GpuReading((), "no library", driver_appeared=True))
    state, _ = step(placeable(gpus=GpuReading()), late, NOW_S, POLICY, 0.5)
    assert state.shutdown is not None
    assert (state.shutdown.kind, state.shutdown.restart) == (Kind.HAND_OVER, True)
    again, _ = step(asked(Kind.STOP), late, NOW_S, POLICY, 0.5)
    assert again.shutdown is not None
    assert again.shutdown.kind is Kind.STOP


def test_a_notice_without_a_time_gets_the_clouds_usual_one() -> None:
    state = shutdown.on_notice(placeable(), NoticeReceived(NoticeKind.TERMINATE, "spot notice"), AT)
    assert state.shutdown is not None
    assert state.shutdown.deadline_at_s == NOW_S + POLICY.notice_s
    assert state.shutdown.mark


def test_a_machine_that_is_started_again_is_not_marked() -> None:
    notice = NoticeReceived(NoticeKind.TERMINATE, "stopped", NOW_S + 60, comes_back=True)
    state = shutdown.on_notice(placeable(), notice, AT)
    assert state.shutdown is not None
    assert not state.shutdown.mark


def test_a_recommendation_is_kept_and_lifted_and_shuts_nothing_down() -> None:
    state = shutdown.on_notice(placeable(), NoticeReceived(NoticeKind.REBALANCE, "risk"), AT)
    assert (state.rebalance, state.shutdown) == ("risk", None)
    assert shutdown.on_notice(state, NoticeReceived(NoticeKind.LIFTED, ""), AT).rebalance is None


@pytest.mark.parametrize(
    ("kind", "deadline_at_s"),
    [
        (CallKind.CHECK, None),
        (CallKind.KEEPALIVE, NOW_S + POLICY.farewell_s / 2),
        (CallKind.REGISTER, NOW_S + 30),
    ],
)
def test_the_call_in_flight_is_waited_for_within_reason(kind: CallKind, deadline_at_s: float | None) -> None:
    call = asked(Kind.STOP, state=placeable(call=Call(1, kind, NOW_S + 30))).call
    assert (call.deadline_at_s if call else None) == deadline_at_s
