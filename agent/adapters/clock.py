"""What time it is: the one place that reads a clock.

`now_s` is for deadlines: it never jumps, and goes on counting while the machine is suspended
(CLOCK_BOOTTIME), since a gateway's lease does, too. `wall_s` is for people, and for notices that name a
moment.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the rest of the agent may ask."""

    def now_s(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def wall_s(self) -> float:
        """Seconds since 1970, UTC, as the machine believes; may jump either way."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_s(self) -> float:
        # Where there is no CLOCK_BOOTTIME (not Linux), a suspended machine notices its lost lease by the
        # answer.
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def wall_s(self) -> float:
        return time.time()
