"""What a fault test records for its row of the fault table: what happened, and how long it took.

What must happen is in tests/faults.md.
"""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, float], None]
"""Takes what happened and the seconds; each fault test calls it once. `make faults` prints the table."""


def recorder(record_property: Callable[[str, object], None]) -> Report:
    """Return a `Report` that writes to pytest's fixture `record_property`."""

    def report(happened: str, seconds: float) -> None:
        record_property("happened", happened)
        record_property("seconds", round(seconds, 1))

    return report
