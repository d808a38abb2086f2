"""Decides this machine's id: configured, or derived from its cloud instance's id, or kept on its disk."""

from __future__ import annotations

import json
from pathlib import Path

from agent.adapters.aws import imds
from agent.adapters.storage.state_dir import IDENTITY_NAME, Identity, StateDir
from agent.settings import Interruption, Settings

METADATA_TIMEOUT_S = 2.0


def machine_id(settings: Settings, state: StateDir) -> Identity:
    """Return this machine's id, generating and keeping one if there is none yet. Its note is for a person."""
    given = _given(settings)
    if given:
        return Identity(given)
    kept = state.machine_id()
    if settings.interruption is not Interruption.NONE and imds.is_amazon():
        note = (
            "the instance metadata service did not answer at the start: this machine uses the id on its disk, "
            f"{kept.machine_id}, until the agent is restarted"
        )
        return Identity(kept.machine_id, note)
    return kept


def known_machine_id(settings: Settings) -> str | None:
    """Return the same id as `machine_id`, or None if that would have to generate one."""
    return _given(settings) or _kept(settings.state_dir / IDENTITY_NAME)


def _given(settings: Settings) -> str | None:
    if settings.machine_id:
        return settings.machine_id
    # A cloud image may be booted many times: the instance id is unique, an id on the disk is not.
    instance = instance_id(settings)
    return imds.machine_id_of(instance) if instance else None


def _kept(file: Path) -> str | None:
    """Read the kept id without setting aside an unusable file, which is up to the running agent."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(kept["machine_id"]) if isinstance(kept, dict) and "machine_id" in kept else None


def instance_id(settings: Settings) -> str:
    """Return this machine's instance id; "" if it has none or BETA9_INTERRUPTION is none."""
    if settings.interruption is Interruption.NONE:
        return ""
    return imds.instance_id(settings.metadata_endpoint, METADATA_TIMEOUT_S) or ""
