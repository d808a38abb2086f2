"""How long to wait before the next attempt: exponential backoff with full jitter, the random number passed in.

Full jitter (a pause drawn evenly between 0 and the bound) keeps a fleet that lost its gateway at one moment
from coming back at one moment: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations


def full_jitter_s(attempt: int, base_s: float, cap_s: float, jitter: float) -> float:
    """Return the pause in seconds before attempt number `attempt` (0 = the first retry); `jitter` is in [0, 1)."""
    # 2**32 is past every cap; without the bound a week of attempts would make a float overflow.
    return jitter * min(cap_s, base_s * 2.0 ** min(attempt, 32))


def between_s(low_s: float, high_s: float, jitter: float) -> float:
    """Return a pause drawn evenly between two bounds, in seconds."""
    return low_s + (high_s - low_s) * jitter
