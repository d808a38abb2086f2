"""Faults that a gateway can be told to have: which request they hit, how often, for how long. Pure.

How a fault looks on the wire is carried out by agent/demo/gateway/embedded.py.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS: Mapping[str, tuple[bool, str]] = {
    # kind: (does the gateway act on the request?, what the caller sees)
    "status": (False, "`status`, `body` (text, default a JSON message) and `headers`"),
    "database_down": (False, "401 to every machine route, as while PostgreSQL is down"),
    "redirect": (False, "`status` (default 307) to `location`"),
    "big": (False, "200 with `size_bytes` of body (default 10 MB)"),
    "hang": (False, "the request is read and never answered"),
    "close": (False, "the connection is closed, with a reset if `reset`"),
    "delay": (True, "the true reply, `delay_s` late"),
    "trickle": (True, "the true reply, one byte every `interval_s` (default 1)"),
    "truncate": (True, "the true reply's first half, then the connection is closed"),
    "drop_reply": (True, "the connection is closed instead of a reply"),
}


@dataclass(frozen=True)
class Fault:
    """One fault. It hits `route` (`*`: all) for `count` requests, for `seconds`, or until cleared."""

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
        """True where the gateway acts on the request although the reply is spoilt."""
        return KINDS[self.kind][0]

    def hits(self, route: str) -> bool:
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
    """A fault as it meets one request: what waits because of it waits until `until_s`, or until `cleared`."""

    fault: Fault
    until_s: float
    cleared: threading.Event


@dataclass
class FaultBook:
    """The faults that are set. The newest one that hits a request wins. Safe to use from many threads."""

    _armed: list[_Armed] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: int = 0

    def set(self, fault: Fault, now_s: float) -> int:
        """Arm a fault; the number returned clears it."""
        until_s = now_s + fault.seconds if fault.seconds is not None else float("inf")
        left = fault.count if fault.count is not None else float("inf")
        with self._lock:
            self._last += 1
            self._armed.append(_Armed(fault, until_s, left, self._last))
            return self._last

    def clear(self, number: int | None = None) -> None:
        """Clear one fault, or all; requests that hang because of it are let go."""
        with self._lock:
            for armed in self._armed:
                if number in {None, armed.number}:
                    armed.cleared.set()
            self._armed = [armed for armed in self._armed if not armed.cleared.is_set()]

    def take(self, route: str, now_s: float) -> Hit | None:
        """The fault for a request to `route`, used up once more; None where the gateway is well."""
        with self._lock:
            for armed in reversed(self._armed):
                if armed.left > 0 and armed.until_s > now_s and armed.fault.hits(route):
                    armed.left -= 1
                    return Hit(armed.fault, armed.until_s, armed.cleared)
            return None
