"""A clock for tests that must not sleep."""

from __future__ import annotations


class FakeClock:
    """Replaces the machine's clocks: time passes only through `advance`, and `set_wall` makes the wall clock jump."""

    def __init__(self, now_s: float = 1000.0, wall_s: float = 1_700_000_000.0) -> None:
        self._now_s = now_s
        self._wall_s = wall_s

    def now_s(self) -> float:
        return self._now_s

    def wall_s(self) -> float:
        return self._wall_s

    def advance(self, seconds: float) -> None:
        """Advance both clocks by `seconds`."""
        self._now_s += seconds
        self._wall_s += seconds

    def set_wall(self, wall_s: float) -> None:
        """Set the wall clock, as a person or NTP does; the monotonic clock is unaffected."""
        self._wall_s = wall_s
