"""The hairpin as last checked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class HairpinFaultKind(str, Enum):
    """Why there is no hairpin. The value is the label in `/status`."""

    UNABLE = "unable"
    """This machine, or this container, cannot make one: then the plain form is used."""
    TAKEN = "taken"
    """Its range is in use on this machine."""
    BROKEN = "broken"
    """It was made, and connections do not come through."""


@dataclass(frozen=True)
class HairpinFault:
    """What is wrong with the hairpin: a kind for decisions, and a message that says what to do."""

    kind: HairpinFaultKind
    message: str


@dataclass(frozen=True)
class Hairpin:
    """The hairpin as last checked. A check also makes it, and repairs it."""

    checking: bool = False
    check_at_s: float = 0.0
    checked_at_s: float | None = None
    """When the last check ended; None: never."""
    inspected_at_s: float | None = None
    """When routes and packet filters were last read."""
    fault: HairpinFault | None = None
    lets_in: bool = False
    """Whether it lets connections to k3s through, as of the last check."""
    k3s_misses: int = 0
    """Checks in a row that did not reach a k3s that answers on this machine."""
    containers: str | None = None
    """Why containers on this machine cannot be reached although the hairpin works."""

    @property
    def works(self) -> bool:
        """Whether connections came through it at the last check."""
        return self.checked_at_s is not None and self.fault is None
