"""Settings for display: every effective value and its source; secrets only by their shape."""

from __future__ import annotations

from dataclasses import fields as dataclass_fields
from enum import Enum

from agent.core.policy import Policy
from agent.core.text.describe import shape
from agent.settings.fields import FIELDS
from agent.settings.model import Settings
from agent.settings.tuning import HAVE_SETTINGS
from agent.settings.values import SecretRef


def describe(settings: Settings) -> dict[str, dict[str, object]]:
    """Return {variable: {"value", "from"}} for every setting, ready for JSON; secrets are masked."""
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
    """Return the timings that differ from their defaults and have no setting of their own."""
    defaults = Policy()
    names = [field.name for field in dataclass_fields(Policy) if field.name not in HAVE_SETTINGS]
    return {
        name: getattr(settings.policy, name)
        for name in names
        if getattr(settings.policy, name) != getattr(defaults, name)
    }
