"""Pauses between attempts: exponential, jittered, bounded, and long after a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.backoff import between_s, full_jitter_s
from agent.core.context import Context
from agent.core.policy import Policy
from agent.core.tunnel.faults import DENIED, FaultKind
from agent.core.tunnel.model import Link
from agent.core.tunnel.transitions import pause_s

POLICY = Policy()


@pytest.mark.parametrize(("attempt", "bound_s"), [(0, 1), (1, 2), (2, 4), (5, 30), (40, 30), (10**6, 30)])
def test_the_bound_doubles_with_every_failure_up_to_the_cap(attempt: int, bound_s: float) -> None:
    assert full_jitter_s(attempt, 1.0, 30.0, 0.5) == bound_s / 2


@given(st.integers(0, 10**9), st.floats(0, 1, exclude_max=True))
def test_a_pause_lies_anywhere_between_nothing_and_the_cap(attempt: int, jitter: float) -> None:
    assert 0 <= full_jitter_s(attempt, 1.0, 30.0, jitter) < 30


@given(st.floats(0, 1, exclude_max=True))
def test_a_pause_between_two_bounds_keeps_to_them(jitter: float) -> None:
    assert 60 <= between_s(60, 300, jitter) <= 300


def test_a_young_outage_is_tried_often_and_an_old_one_seldom() -> None:
    young, old = Context(1000.0, POLICY, 0.999), Context(1000.0 + POLICY.outage_s, POLICY, 0.999)
    link = Link(attempt=20, down_since_s=1000.0)
    assert pause_s(link, FaultKind.UNREACHABLE, young) < POLICY.outage_cap_s
    assert POLICY.outage_cap_s < pause_s(link, FaultKind.UNREACHABLE, old) < POLICY.backoff_cap_s


@pytest.mark.parametrize("kind", sorted(DENIED))
def test_a_refused_credential_is_not_tried_again_within_a_minute(kind: FaultKind) -> None:
    assert pause_s(Link(), kind, Context(0.0, POLICY, 0.0)) >= 60


def test_a_refused_session_channel_costs_no_pause() -> None:
    assert pause_s(Link(attempt=9), FaultKind.SESSION, Context(0.0, POLICY, 0.999)) == 0
