"""How the gateway parses requests and encodes replies: by Go's JSON rules, not Python's. No I/O.

The gateway is a Go program (labstack/echo): field names match case-insensitively, a number in place of a string is an
error, an integer field takes neither fraction nor exponent, unknown fields are ignored, null leaves a field empty, and
anything after the first JSON value is ignored.
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
    """The body does not fit the route; the gateway answers 400 `Invalid payload`."""


def bind(content_type: str, body: bytes, fields: Mapping[str, type]) -> dict[str, Any]:
    """Parse a request body into a value for each field; absent and null fields are empty.

    As in echo, an empty body is valid whatever its content type, and leaves every field empty.
    Raises: PayloadError for a content type other than JSON and for a body that does not fit.
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
    """Extract the known fields of a JSON object. Raises: PayloadError for a value of the wrong type."""
    filled = {name: _ZERO[kind] for name, kind in fields.items()}
    for key, item in value.items():
        name = key.lower()
        if name in fields and item is not None:
            filled[name] = _converted(item, fields[name])
    return filled


def _converted(value: Any, kind: type) -> Any:
    if kind is dict and isinstance(value, dict):
        return fill(value, METRICS_FIELDS)
    if kind is str and isinstance(value, str):
        return value
    if kind is int and type(value) is int and value in INT64:
        return value
    if kind is float and type(value) in {int, float}:
        return _float64(value)
    raise PayloadError(f"expected a {kind.__name__}")


def _float64(value: float) -> float:
    try:
        number = float(value)
    except OverflowError as error:
        raise PayloadError("number out of range for float64") from error
    if number in {float("inf"), float("-inf")}:
        raise PayloadError("number out of range for float64")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


def cpu_millicores(text: str) -> int:
    """Parse integer millicores with or without one `m`, so `"8"` is 8 millicores. Raises: ValueError."""
    return _unsigned(text.removesuffix("m"), INT64, signed=True)


def memory_mib(text: str) -> int:
    """Parse digits followed by nothing (MiB), `Ki`, `Mi` or `Gi` into MiB. Raises: ValueError."""
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
    """Parse an unsigned 32-bit integer, digits only. Raises: ValueError."""
    return _unsigned(text, UINT32)


def _unsigned(text: str, within: range, *, signed: bool = False) -> int:
    """Parse ASCII digits only; int() would also accept spaces, underscores and the digits of other scripts.

    `signed` allows a leading plus sign, and a minus sign before zero, as Go's ParseInt does.
    """
    digits = text[1:] if signed and text[:1] in {"+", "-"} else text
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError("not an integer")
    value = int(text)
    if value < 0 or value not in within:
        raise ValueError("out of range")
    return value


def to_json(value: object) -> bytes:
    """Encode JSON as Go does: compact, `<`, `>` and `&` escaped, one newline at the end."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace") + b"\n"
