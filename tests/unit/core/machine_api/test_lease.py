"""The lease: the interval that fits it, and when it is renewed or has expired."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.core.context import Context
from agent.core.machine_api.lease import has_expired, interval_problem, renewed
from agent.core.machine_api.model import Lease
from tests.unit.core_cases import AT, NOW_S, POLICY


def test_the_timings_we_ship_fit_the_lease() -> None:
    assert interval_problem(POLICY) is None


def test_an_interval_at_the_very_limit_fits_and_one_beyond_does_not() -> None:
    # 300 s of lease less two time-outs of 10 s and two pauses of 10 s
    assert interval_problem(replace(POLICY, keepalive_interval_s=260)) is None
    problem = interval_problem(replace(POLICY, keepalive_interval_s=260.5))
    assert problem is not None
    assert "260.5 s between keepalives" in problem
    assert "use at most 260 s" in problem


@given(st.floats(1, 290))
def test_where_the_rule_holds_one_lost_keepalive_never_loses_the_lease(interval_s: float) -> None:
    policy = replace(POLICY, keepalive_interval_s=interval_s)
    if interval_problem(policy) is None:
        lost_at_s = interval_s + policy.keepalive_timeout_s
        answered_by_s = lost_at_s + policy.call_retry_cap_s + policy.keepalive_timeout_s
        assert answered_by_s <= policy.ttl_s


def test_a_renewed_lease_lasts_as_long_as_the_gateway_says() -> None:
    lease = renewed(Lease(failures=2), 120.0, AT)
    assert (lease.expires_at_s, lease.failures, lease.oks) == (NOW_S + 120, 0, 1)
    assert not has_expired(lease, AT)
    assert has_expired(lease, Context(NOW_S + 120, POLICY))


def test_a_lease_that_was_never_given_has_not_expired() -> None:
    assert not has_expired(Lease(), AT)
