"""The table of all settings. Parsing, `--help` and docs/settings.md are made from it."""

from __future__ import annotations

from agent.settings.fields.bootstrap_variables import BOOTSTRAP_VARIABLES, BootstrapVariable
from agent.settings.fields.field import Field
from agent.settings.fields.gateway_fields import GATEWAY_FIELDS
from agent.settings.fields.machine_fields import MACHINE_FIELDS

__all__ = ["BOOTSTRAP_VARIABLES", "BY_NAME", "FIELDS", "BootstrapVariable", "Field", "known_variables"]

FIELDS: tuple[Field, ...] = (*GATEWAY_FIELDS, *MACHINE_FIELDS)

BY_NAME = {field.name: field for field in FIELDS}


def known_variables() -> tuple[str, ...]:
    """Return every variable that the agent or the bootstrap reads, including the `_FILE` variants."""
    own = [field.variable for field in FIELDS]
    files = [f"{field.variable}_FILE" for field in FIELDS if field.file_variant]
    return (*own, *files, *BOOTSTRAP_VARIABLES)
