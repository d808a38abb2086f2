"""What a fault test tells the table: what happened, and how long that took. What must happen is in tests/faults.md."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, float], None]
"""Called once by each fault test: what happened, seconds. `make faults` prints it."""


def teller(record_property: Callable[[str, object], None]) -> Tell:
    """Make a `Tell` from pytest's fixture `record_property`."""

    def tell(happened: str, seconds: float) -> None:
        record_property("happened", happened)
        record_property("seconds", round(seconds, 1))

    return tell
