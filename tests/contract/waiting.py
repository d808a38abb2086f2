"""Waiting for something to become true, with a deadline that only a broken test reaches."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE_S = 30.0


def wait_until(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Return when the condition holds. Raises: AssertionError when it does not in time."""
    until_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until_s, f"not true after {deadline_s:g} s"
        time.sleep(0.01)
