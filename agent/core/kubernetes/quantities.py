"""Read a Kubernetes quantity ("2", "1900m", "23Gi", "1e9") as a whole number.

The grammar is apimachinery's (resource.Quantity): a decimal number with a decimal or binary suffix, or an exponent.
"""

from __future__ import annotations

import re

_QUANTITY = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]*)(?:\.(?P<part>[0-9]*))?"
    r"(?:[eE](?P<exponent>[+-]?[0-9]{1,2})|(?P<suffix>[KMGTPE]i|[numkMGTPE]?))"
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_LONGEST = 64


def whole(value: object, per_unit: int = 1) -> int:
    """Return a quantity in parts of which a unit has `per_unit` (1000: millicores), rounded up as the scheduler does.

    Raises: ValueError if it is not a quantity.
    """
    text = str(value)
    found = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None or not (found["whole"] or found["part"]):
        raise ValueError(f"{text[:_LONGEST]!r} is not a quantity")
    part = found["part"] or ""
    count = int((found["whole"] or "") + part) * per_unit
    tens = (int(found["exponent"]) if found["exponent"] else _DECIMAL.get(found["suffix"], 0)) - len(part)
    count <<= _BINARY.get(found["suffix"] or "", 0)
    power = int(10 ** abs(tens))
    count = count * power if tens >= 0 else -(-count // power)
    return -count if found["sign"] == "-" else count
