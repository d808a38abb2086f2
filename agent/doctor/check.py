"""Checks and their results, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.doctor.case import Case


class Verdict(str, Enum):
    """The outcome of a check; `--json` prints the value."""

    OK = "ok"
    WARN = "warn"
    """It works, but not as well as it could; or it cannot be determined from here."""
    FAIL = "fail"
    SKIP = "skip"
    """Not needed here, or not tried because an earlier check failed."""


@dataclass(frozen=True)
class Finding:
    """The result of one check. `found` is for checks that need this one, and is never printed."""

    verdict: Verdict
    seen: str
    fix: str = ""
    found: object = None


def ok(seen: str, found: object = None) -> Finding:
    """Return a finding without objection."""
    return Finding(Verdict.OK, seen, found=found)


def warn(seen: str, fix: str, found: object = None) -> Finding:
    """Return a finding that should be fixed, but does not keep the agent from starting."""
    return Finding(Verdict.WARN, seen, fix, found)


def fail(seen: str, fix: str) -> Finding:
    """Return a finding that must be fixed first."""
    return Finding(Verdict.FAIL, seen, fix)


def skip(reason: str) -> Finding:
    """Return a finding for a check that was not made."""
    return Finding(Verdict.SKIP, reason)


@dataclass(frozen=True)
class Check:
    """One prerequisite. It runs once every check that it needs ended with ok or a warning."""

    name: str
    run: Callable[[Case], Finding]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    """Checks to wait for, whatever their verdict."""


@dataclass(frozen=True)
class Result:
    """A check's finding, and how long the check took in seconds."""

    group: str
    name: str
    finding: Finding
    took_s: float = 0.0
