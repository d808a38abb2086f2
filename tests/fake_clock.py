"""A clock for tests that must not wait."""

from __future__ import annotations


class FakeClock:
    """Stands for the machine's clocks in tests: time passes when `advance` says so, `set_wall` makes it
    jump.
    """

    def __init__(self, now_s: float = 1000.0, wall_s: float = 1_700_000_000.0) -> None:
        self._now_s = now_s
        self._wall_s = wall_s

    def now_s(self) -> float:
        return self._now_s

    def wall_s(self) -> float:
        return self._wall_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks."""
        self._now_s += seconds
        self._wall_s += seconds

    def set_wall(self, wall_s: float) -> None:
        """What a person or NTP does to the wall clock; `now_s` is not touched."""
        self._wall_s = wall_s
