"""Settings as a person may see them: every effective value and where it came from, secrets by shape only."""

from __future__ import annotations

from dataclasses import fields as dataclass_fields
from enum import Enum

from agent.core.policy import Policy
from agent.core.text.describe import shape
from agent.settings.fields import FIELDS
from agent.settings.model import Settings
from agent.settings.values import SecretRef


def describe(settings: Settings) -> dict[str, dict[str, object]]:
    """Return variable → {"value", "from"} for every setting, ready for JSON; secrets are masked."""
    described: dict[str, dict[str, object]] = {}
    for field in FIELDS:
        origin = settings.sources.get(field.name)
        described[field.variable] = {"value": _value(settings, field.name), "from": origin or "default"}
    return described


def _value(settings: Settings, name: str) -> object:
    if name == "keepalive_interval_s":
        return settings.policy.keepalive_interval_s
    if name == "tuning":
        return _tuned(settings)
    value = getattr(settings, name)
    if isinstance(value, SecretRef):
        return _masked(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return value if value is None or isinstance(value, (int, float)) else str(value)


def _masked(ref: SecretRef) -> str:
    if ref.reference:
        return ref.reference
    return f"file {ref.file}" if ref.file else shape(ref.value or "")


def _tuned(settings: Settings) -> dict[str, float]:
    own = ("keepalive_interval_s", "drain_timeout_s")
    plain = Policy()
    names = [field.name for field in dataclass_fields(Policy) if field.name not in own]
    return {n: getattr(settings.policy, n) for n in names if getattr(settings.policy, n) != getattr(plain, n)}
