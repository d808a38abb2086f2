"""Throttles log lines about a failure that repeats: the first is logged, later ones less and less often.

An hour of failing attempts is five lines, not hundreds: at once, and after 1, 5, 15 and 60 more minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

PAUSES_S = (60.0, 300.0, 900.0, 3600.0)
"""Minimum seconds between two lines; the last value repeats."""


@dataclass(frozen=True)
class Repeats:
    """How often, and over how many seconds, the same failure occurred."""

    times: int
    lasted_s: float


@dataclass
class _Outage:
    began_s: float
    times: int
    lines: int
    logged_at_s: float


class LogThrottle:
    """Counts ongoing failures by name. Not thread-safe."""

    def __init__(self, pauses_s: tuple[float, ...] = PAUSES_S) -> None:
        self._pauses_s = pauses_s
        self._outages: dict[str, _Outage] = {}

    def record(self, name: str, now_s: float) -> Repeats | None:
        """Count one failure. Return what to log about it, or None while no line is due."""
        outage = self._outages.get(name)
        if outage is None:
            self._outages[name] = _Outage(now_s, 1, 1, now_s)
            return Repeats(1, 0.0)
        outage.times += 1
        pause_s = self._pauses_s[min(outage.lines, len(self._pauses_s)) - 1]
        if now_s - outage.logged_at_s < pause_s:
            return None
        outage.lines += 1
        outage.logged_at_s = now_s
        return Repeats(outage.times, now_s - outage.began_s)

    def resolve(self, name: str, now_s: float) -> Repeats | None:
        """End the failure and return its summary, or None if there was none."""
        outage = self._outages.pop(name, None)
        return None if outage is None else Repeats(outage.times, now_s - outage.began_s)
