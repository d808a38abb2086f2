"""How the gateway reads what a machine sends, and how it writes its answers: Go's rules, not Python's.

The gateway is a Go program (labstack/echo): field names match without regard to case, a number where a string
is needed is an error, an integer field takes no fraction and no exponent, unknown fields are ignored, null
leaves a field empty, whatever follows the first JSON value is not looked at. No I/O here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

INT64 = range(-(2**63), 2**63)
UINT32 = range(2**32)

REGISTER_FIELDS: Mapping[str, type] = dict.fromkeys(
    (
        "token",
        "machine_id",
        "hostname",
        "provider_name",
        "pool_name",
        "cpu",
        "memory",
        "gpu_count",
        "private_ip",
    ),
    str,
)
METRICS_FIELDS: Mapping[str, type] = {
    "total_cpu_available": int,
    "total_memory_available": int,
    "total_disk_space_bytes": int,
    "total_disk_free_bytes": int,
    "cpu_utilization_pct": float,
    "memory_utilization_pct": float,
    "worker_count": int,
    "container_count": int,
    "free_gpu_count": int,
    "cache_usage_pct": float,
    "cache_capacity": int,
    "cache_memory_usage": int,
    "cache_cpu_usage": float,
}
KEEPALIVE_FIELDS: Mapping[str, type] = {
    "machine_id": str,
    "provider_name": str,
    "pool_name": str,
    "agent_version": str,
    "metrics": dict,
}

_ZERO: Mapping[type, Any] = {str: "", int: 0, float: 0.0, dict: None}


class PayloadError(ValueError):
    """The body is not what the route takes; the gateway answers 400 `Invalid payload`."""


def bind(content_type: str, body: bytes, fields: Mapping[str, type]) -> dict[str, Any]:
    """Read a request body into a value for each field; absent and null ones are empty.

    An empty body is not looked at whatever its type (echo's rule), so that every field is empty.
    Raises: PayloadError for another content type than JSON and for a body that does not fit.
    """
    if not body:
        return fill({}, fields)
    if content_type.split(";", maxsplit=1)[0].strip().lower() != "application/json":
        raise PayloadError("content type is not application/json")
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    try:
        value, _ = decoder.raw_decode(body.decode("utf-8", "replace").lstrip(" \t\r\n"))
    except (ValueError, RecursionError) as error:
        raise PayloadError("body is not JSON") from error
    if value is None:
        return fill({}, fields)
    if not isinstance(value, dict):
        raise PayloadError("body is not a JSON object")
    return fill(value, fields)


def fill(value: Mapping[str, Any], fields: Mapping[str, type]) -> dict[str, Any]:
    """Take the known fields out of a JSON object. Raises: PayloadError for a value of another type."""
    filled = {name: _ZERO[kind] for name, kind in fields.items()}
    for key, given in value.items():
        name = key.lower()
        if name in fields and given is not None:
            filled[name] = _converted(given, fields[name])
    return filled


def _converted(given: Any, kind: type) -> Any:
    if kind is dict and isinstance(given, dict):
        return fill(given, METRICS_FIELDS)
    if kind is str and isinstance(given, str):
        return given
    if kind is int and type(given) is int and given in INT64:
        return given
    if kind is float and type(given) in {int, float}:
        return _float64(given)
    raise PayloadError(f"a {kind.__name__} is needed")


def _float64(given: float) -> float:
    try:
        number = float(given)
    except OverflowError as error:
        raise PayloadError("a number beyond float64") from error
    if number in {float("inf"), float("-inf")}:
        raise PayloadError("a number beyond float64")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def cpu_millicores(text: str) -> int:
    """Integer millicores with or without one `m`, so `"8"` is 8 millicores. Raises: ValueError."""
    return _unsigned(text.removesuffix("m"), INT64, signed=True)


def memory_mib(text: str) -> int:
    """Digits, then nothing (MiB), `Ki`, `Mi` or `Gi`. Raises: ValueError."""
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    value = _unsigned(digits, INT64)
    match text[len(digits) :]:
        case "Ki":
            return value // 1024
        case "" | "Mi":
            return value
        case "Gi":
            return value * 1024
    raise ValueError("not a memory value")


def gpu_count(text: str) -> int:
    """An unsigned 32-bit integer, digits only. Raises: ValueError."""
    return _unsigned(text, UINT32)


def _unsigned(text: str, within: range, *, signed: bool = False) -> int:
    """Digits of ASCII only: Python's int() would also take blanks, underscores and other scripts' digits.

    `signed` admits a leading plus sign, and minus before zero, as Go's ParseInt does.
    """
    digits = text[1:] if signed and text[:1] in {"+", "-"} else text
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError("not an integer")
    value = int(text)
    if value < 0 or value not in within:
        raise ValueError("out of range")
    return value


def to_json(value: Any) -> bytes:
    """Write JSON as Go's encoder does: compact, `<`, `>` and `&` escaped, one newline at the end."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace") + b"\n"
