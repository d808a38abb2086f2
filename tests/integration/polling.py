"""Waiting for a condition, with a deadline that only a failing test reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE_S = 60.0
"""Time limit for a condition on a slow, shared machine; generous, since only a failing test waits that long."""

T = TypeVar("T")


def wait_for(what: str, condition: Callable[[], T | None], deadline_s: float = DEADLINE_S) -> T:
    """Poll until `condition` returns something true, and return that. Raises AssertionError at the deadline."""
    end_s = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end_s, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.02)
