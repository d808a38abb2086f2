"""Which repetitions of the same trouble are worth a log line: the first, then fewer and fewer.

An hour of failing attempts is five lines, not hundreds: at once, and after 1, 5, 15 and 60 more minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

PAUSES_S = (60.0, 300.0, 900.0, 3600.0)
"""Least seconds from one line to the next; the last goes on."""


@dataclass(frozen=True)
class Repeats:
    """How often, and for how many seconds, the same thing happened."""

    times: int
    lasted_s: float


@dataclass
class _Trouble:
    began_s: float
    times: int
    lines: int
    said_at_s: float


class LogThrottle:
    """Keeps count of troubles by name. Not for several threads at once."""

    def __init__(self, pauses_s: tuple[float, ...] = PAUSES_S) -> None:
        self._pauses_s = pauses_s
        self._troubles: dict[str, _Trouble] = {}

    def again(self, name: str, now_s: float) -> Repeats | None:
        """It happened (again). What to say about it now, or None: nothing yet."""
        trouble = self._troubles.get(name)
        if trouble is None:
            self._troubles[name] = _Trouble(now_s, 1, 1, now_s)
            return Repeats(1, 0.0)
        trouble.times += 1
        pause_s = self._pauses_s[min(trouble.lines, len(self._pauses_s)) - 1]
        if now_s - trouble.said_at_s < pause_s:
            return None
        trouble.lines += 1
        trouble.said_at_s = now_s
        return Repeats(trouble.times, now_s - trouble.began_s)

    def over(self, name: str, now_s: float) -> Repeats | None:
        """It is over. How it was, or None if it never was."""
        trouble = self._troubles.pop(name, None)
        return None if trouble is None else Repeats(trouble.times, now_s - trouble.began_s)
