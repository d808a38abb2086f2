"""BETA9_TUNING: timings of the policy replaced by a test, `field=number,field=number`."""

from __future__ import annotations

import math
from dataclasses import fields, replace

from agent.core.policy import Policy
from agent.core.text.describe import nearest, shown

HAVE_SETTINGS = {
    "keepalive_interval_s": "BETA9_KEEPALIVE_INTERVAL",
    "drain_timeout_s": "BETA9_DRAIN_TIMEOUT",
}


def tuned(policy: Policy, tuning: str) -> tuple[Policy, list[str]]:
    """Return the policy with the fields that a tuning names replaced, and what is wrong with the tuning."""
    changes: dict[str, float] = {}
    problems: list[str] = []
    for part in (part.strip() for part in tuning.split(",") if part.strip()):
        name, _, number = part.partition("=")
        value = _number(number)
        problem = _problem(name, value, number)
        if problem:
            problems.append(problem)
        else:
            changes[name] = value
    return replace(policy, **changes), problems


def _problem(name: str, value: float, number: str) -> str | None:
    names = [field.name for field in fields(Policy)]
    if name in HAVE_SETTINGS:
        return f"has {name}, which has a setting of its own: {HAVE_SETTINGS[name]}"
    if name not in names:
        near = nearest(name, names)
        hint = f"; did you mean {near}?" if near else "; agent/core/policy.py has the names"
        return f"has {shown(name)}, which the policy does not know{hint}"
    if math.isnan(value):
        return f"gives {name} the value {shown(number)}; write {name}=NUMBER, 0 or more"
    return None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if 0 <= value < math.inf else math.nan
