"""The current time: the agent's deadlines and time stamps come from here.

`now_s` is for deadlines: it never jumps, and it keeps counting while the machine is suspended (CLOCK_BOOTTIME),
because a gateway's lease keeps running too. `wall_s` is for people, and for notices that name a time of day.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the rest of the agent needs of a clock."""

    def now_s(self) -> float:
        """Return the seconds since some fixed moment; never goes back."""
        ...

    def wall_s(self) -> float:
        """Return the seconds since 1970, UTC, by this machine's clock; may jump either way."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_s(self) -> float:
        # Without CLOCK_BOOTTIME (not Linux) a machine that was suspended learns from the gateway's reply that its
        # lease has run out.
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def wall_s(self) -> float:
        return time.time()
