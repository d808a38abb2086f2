"""How long a thing may take in a fault test: what its row says, and what a machine with other work may add to that.

`make faults SERIAL=1`, which makes the figures in docs/reliability.md, runs one test at a time and holds every row to
its own bound. Side by side, and beside whatever else the machine does, a process may wait seconds for a processor: then
a bound tells what hangs, or takes another way, from what is only late.
"""

from __future__ import annotations

import os

SERIAL = "FAULTS_SERIAL"
"""Set in the environment by scripts/faults.py for a run of one test at a time."""
LATE_S = 0.0 if os.environ.get(SERIAL) else 10.0
EARLY_S = 0.0 if os.environ.get(SERIAL) else 2.0
"""Two moments that are taken one after another, the first of them late, lie closer together than what they mark."""


def within(limit_s: float) -> float:
    """Return the longest that may take which a row allows `limit_s`."""
    return limit_s + LATE_S


def at_least(pause_s: float) -> float:
    """Return the shortest that may be measured of a pause of `pause_s`."""
    return max(0.0, pause_s - EARLY_S)
