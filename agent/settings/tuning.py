"""BETA9_TUNING: timings of the policy that a test overrides, as `field=number,field=number`."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

from agent.core.policy import Policy
from agent.core.text.describe import nearest, shown

HAVE_SETTINGS = {
    "keepalive_interval_s": "BETA9_KEEPALIVE_INTERVAL",
    "drain_timeout_s": "BETA9_DRAIN_TIMEOUT",
}
"""Fields of the policy with a setting of their own, by field name."""


def tuned(policy: Policy, tuning: str) -> tuple[Policy, list[str]]:
    """Return the policy with the given fields replaced, and the errors in `tuning`."""
    changes: dict[str, Any] = {}
    errors: list[str] = []
    for part in (part.strip() for part in tuning.split(",") if part.strip()):
        name, _, number = part.partition("=")
        value = _number(number)
        error = _error(name, value, number)
        if error:
            errors.append(error)
        else:
            # A count of 2.5 failures is reached with the third.
            changes[name] = math.ceil(value) if isinstance(getattr(policy, name), int) else value
    return replace(policy, **changes), errors


def _error(name: str, value: float, number: str) -> str | None:
    names = [field.name for field in fields(Policy)]
    if name in HAVE_SETTINGS:
        return f"contains {name}, which has its own setting: {HAVE_SETTINGS[name]}"
    if name not in names:
        near = nearest(name, names)
        hint = f"; did you mean {near}?" if near else "; agent/core/policy.py lists the names"
        return f"contains {shown(name)}, which is not a field of the policy{hint}"
    if math.isnan(value):
        return f"sets {name} to {shown(number)}; write {name}=NUMBER, 0 or more"
    return None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if 0 <= value < math.inf else math.nan
