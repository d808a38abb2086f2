"""Time limits of fault tests: the limit from the row, plus an allowance for a busy machine.

`make faults SERIAL=1`, which produces the figures in docs/reliability.md, runs one test at a time and holds every row
to its own limit. In parallel, or beside other work, a process may wait seconds for a CPU: the relaxed limits then only
separate a hang or a wrong code path from a late result.
"""

from __future__ import annotations

import os

SERIAL = "FAULTS_SERIAL"
"""Environment variable that scripts/faults.py sets when it runs one test at a time."""
LATE_S = 0.0 if os.environ.get(SERIAL) else 10.0
"""Added to an upper limit."""
EARLY_S = 0.0 if os.environ.get(SERIAL) else 2.0
"""Subtracted from a lower limit: if the first of two timestamps is taken late, the measured interval is too short."""
STOP_S = 5.0
"""Row 38's limit for the exit after SIGTERM, with nothing to drain."""


def within(limit_s: float) -> float:
    """Return the upper limit to assert for something that must happen within `limit_s`."""
    return limit_s + LATE_S


def at_least(pause_s: float) -> float:
    """Return the lower limit to assert for a pause of at least `pause_s`."""
    return max(0.0, pause_s - EARLY_S)
