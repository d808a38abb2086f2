"""The throttle: an outage is logged at once, then at ever longer intervals, and counted to its end."""

from __future__ import annotations

from agent.observability.log_throttle import LogThrottle, Repeats


def test_an_hour_of_failing_attempts_is_a_handful_of_lines() -> None:
    throttle = LogThrottle()
    logged = [(now_s, r) for now_s in range(0, 3600, 4) if (r := throttle.record("gateway", now_s))]
    assert [now_s for now_s, _ in logged] == [0, 60, 360, 1260]
    assert logged[-1][1] == Repeats(times=316, lasted_s=1260)
    assert throttle.resolve("gateway", 3600) == Repeats(times=900, lasted_s=3600)
    assert throttle.resolve("gateway", 3600) is None


def test_the_longest_pause_goes_on() -> None:
    throttle = LogThrottle()
    logged_at_s = [now_s for now_s in range(0, 20_000, 10) if throttle.record("gateway", now_s)]
    assert logged_at_s == [0, 60, 360, 1260, 4860, 8460, 12060, 15660, 19260]


def test_troubles_are_counted_apart_and_start_anew() -> None:
    throttle = LogThrottle()
    assert throttle.record("a", 0)
    assert throttle.record("b", 1)
    assert throttle.record("a", 2) is None
    throttle.resolve("a", 3)
    assert throttle.record("a", 4) == Repeats(1, 0)
