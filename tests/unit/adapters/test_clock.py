"""Clocks: deadlines do not jump, and the fake clock moves only when it is advanced."""

from __future__ import annotations

import time

from agent.adapters.clock import SystemClock
from tests.fake_clock import FakeClock


def test_the_system_clock_counts_seconds_and_never_goes_back() -> None:
    clock = SystemClock()
    readings = [clock.now_s() for _ in range(1000)]
    assert readings == sorted(readings)
    assert abs(clock.wall_s() - time.time()) < 5


def test_deadlines_go_on_while_the_machine_is_suspended() -> None:
    """CLOCK_BOOTTIME counts the time that a machine is suspended; CLOCK_MONOTONIC does not."""
    assert abs(SystemClock().now_s() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5


def test_a_wall_clock_that_jumps_moves_no_deadline() -> None:
    clock = FakeClock(now_s=10, wall_s=1000)
    clock.advance(5)
    clock.set_wall(1000 - 3600)
    assert (clock.now_s(), clock.wall_s()) == (15, -2600)
