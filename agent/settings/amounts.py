"""Parsers of amounts: times, counts, processors and memory. Each raises ValueError with the end of a sentence."""

from __future__ import annotations

import math
import re

COUNT = "0|[1-9][0-9]{0,6}"
_CPU = r"(?P<milli>[0-9]{1,9})m|(?P<cores>[0-9]{1,6}(\.[0-9]{1,3})?)"
_MEMORY = r"(?P<count>[0-9]{1,12})(?P<unit>Ki|Mi|Gi|Ti)|0"
_MIB = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024, "Ti": 1024 * 1024}


def seconds(value: str) -> float:
    """Parse a time in seconds, more than 0; a trailing `s` is allowed."""
    number = _number(value.removesuffix("s"))
    if not number > 0:
        raise ValueError("is not a time; give seconds as a number above 0, such as 60")
    return number


def seconds_or_none(value: str) -> float:
    """Parse a time in seconds, 0 or more."""
    number = _number(value.removesuffix("s"))
    if not number >= 0:
        raise ValueError("is not a time; give seconds as a number, 0 or more, such as 90")
    return number


def _number(value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return math.nan
    return float(value)


def count(value: str) -> int:
    """Parse a whole number. Raises: ValueError."""
    if not re.fullmatch(COUNT, value):
        raise ValueError("is not a whole number; give digits only")
    return int(value)


def cpu_millicores(value: str) -> int:
    """Parse a Kubernetes CPU quantity: `500m`, or cores (`2`, `0.5`)."""
    match = re.fullmatch(_CPU, value)
    if not match:
        raise ValueError("is not an amount of CPU; give millicores such as 500m, or cores such as 2 or 0.5")
    return int(match["milli"]) if match["milli"] else round(float(match["cores"]) * 1000)


def memory_mib(value: str) -> int:
    """Parse a Kubernetes memory quantity with a unit (Ki, Mi, Gi, Ti); return MiB, rounded up."""
    match = re.fullmatch(_MEMORY, value)
    if not match:
        raise ValueError(
            "is not an amount of memory; give a whole number with Mi or Gi, such as 512Mi or 1Gi"
        )
    return math.ceil(int(match["count"]) * _MIB[match["unit"]]) if match["unit"] else 0
