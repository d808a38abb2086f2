"""Faults that can be injected into the gateway: which requests they hit, how often, for how long. No I/O.

agent/demo/gateway/connection.py carries them out.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS: Mapping[str, tuple[bool, str]] = {
    # kind: (whether the gateway acts on the request, what the client sees)
    "status": (False, "`status`, `body` (text, default a JSON message) and `headers`"),
    "database_down": (False, "401 from every machine route, as while PostgreSQL is down"),
    "redirect": (False, "a redirect with `status` (default 307) to `location`"),
    "big": (False, "200 with `size_bytes` of body (default 10 MB)"),
    "hang": (False, "the request is read and never answered"),
    "close": (False, "the connection is closed, with a reset if `reset`"),
    "delay": (True, "the real reply, `delay_s` late"),
    "trickle": (True, "the real reply, one byte every `interval_s` (default 1)"),
    "truncate": (True, "the first half of the real reply, then the connection is closed"),
    "drop_reply": (True, "the connection is closed instead of a reply"),
}


@dataclass(frozen=True)
class Fault:
    """One fault. It applies to `route` (`*`: all) for `count` requests, for `seconds`, or until cleared."""

    kind: str
    route: str = "*"
    count: int | None = None
    seconds: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; known: {', '.join(KINDS)}")

    @property
    def acts(self) -> bool:
        """Whether the gateway acts on the request although the reply is faulty."""
        return KINDS[self.kind][0]

    def hits(self, route: str) -> bool:
        """Return whether the fault applies to a route."""
        if self.kind == "database_down" and route in {"health", "unknown"}:
            return False
        return self.route in {"*", route}


@dataclass
class _Armed:
    fault: Fault
    until_s: float
    left: float
    number: int
    cleared: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Hit:
    """A fault applied to one request. Any wait it causes ends at `until_s`, or when `cleared` is set."""

    fault: Fault
    until_s: float
    cleared: threading.Event


class FaultBook:
    """The active faults. The newest one that applies to a request wins. Thread-safe."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []
        self._lock = threading.Lock()
        self._last = 0

    def set(self, fault: Fault, now_s: float) -> int:
        """Activate a fault. Return its number, by which it can be cleared."""
        until_s = now_s + fault.seconds if fault.seconds is not None else float("inf")
        left = fault.count if fault.count is not None else float("inf")
        with self._lock:
            self._last += 1
            self._armed.append(_Armed(fault, until_s, left, self._last))
            return self._last

    def clear(self, number: int | None = None) -> None:
        """Clear one fault, or all, and release the requests that they block."""
        with self._lock:
            for armed in self._armed:
                if number in {None, armed.number}:
                    armed.cleared.set()
            self._armed = [armed for armed in self._armed if not armed.cleared.is_set()]

    def take(self, route: str, now_s: float) -> Hit | None:
        """Return the fault for a request to `route` and count the hit; None if no fault applies."""
        with self._lock:
            for armed in reversed(self._armed):
                if armed.left > 0 and armed.until_s > now_s and armed.fault.hits(route):
                    armed.left -= 1
                    return Hit(armed.fault, armed.until_s, armed.cleared)
            return None
