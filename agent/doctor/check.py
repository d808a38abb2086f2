"""What a check is, and what comes of it: plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.doctor.case import Case


class Verdict(str, Enum):
    """How a check ended; the value is what `--json` says."""

    OK = "ok"
    WARN = "warn"
    """Works, and not as well as it could; or it cannot be told from here whether it will."""
    FAIL = "fail"
    SKIP = "skip"
    """Not needed here, or not to be tried because something before it failed."""


@dataclass(frozen=True)
class Finding:
    """What one check saw. `found` is for the checks that need this one; it is never printed."""

    verdict: Verdict
    seen: str
    fix: str = ""
    found: Any = None


def ok(seen: str, found: Any = None) -> Finding:
    """All is well."""
    return Finding(Verdict.OK, seen, found=found)


def warn(seen: str, fix: str, found: Any = None) -> Finding:
    """Not as it should be, and no reason not to start."""
    return Finding(Verdict.WARN, seen, fix, found)


def fail(seen: str, fix: str) -> Finding:
    """This must be mended first."""
    return Finding(Verdict.FAIL, seen, fix)


def skip(why: str) -> Finding:
    """Nothing to look at."""
    return Finding(Verdict.SKIP, why)


@dataclass(frozen=True)
class Check:
    """One prerequisite. It is looked at once everything it needs is ok (or only worth a warning)."""

    name: str
    look: Callable[[Case], Finding]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    """Waited for, whatever comes of them."""


@dataclass(frozen=True)
class Result:
    """A check with its finding; `took_s` in seconds."""

    group: str
    name: str
    finding: Finding
    took_s: float = 0.0
