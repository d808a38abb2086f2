"""Which id this machine goes by: as configured, else made from its cloud instance's id, else kept on its disk."""

from __future__ import annotations

import json
from pathlib import Path

from agent.adapters.aws import imds
from agent.adapters.storage.state_dir import IDENTITY_NAME, Identity, StateDir
from agent.settings import Interruption, Settings

METADATA_TIMEOUT_S = 2.0


def machine_id(settings: Settings, state: StateDir) -> Identity:
    """Return this machine's id, made and kept where there is none yet; its note is for a person."""
    chosen = _chosen(settings)
    if chosen:
        return Identity(chosen)
    kept = state.machine_id()
    if settings.interruption is not Interruption.NONE and imds.is_amazon():
        note = (
            "the instance metadata service did not answer at the start: this machine goes by the id on its disk, "
            f"{kept.machine_id}, until the agent is restarted"
        )
        return Identity(kept.machine_id, note)
    return kept


def known_machine_id(settings: Settings) -> str | None:
    """Return the id that `machine_id` would, but make none: None where it would have to."""
    return _chosen(settings) or _kept(settings.state_dir / IDENTITY_NAME)


def _chosen(settings: Settings) -> str | None:
    if settings.machine_id:
        return settings.machine_id
    # An image of a cloud machine may be booted many times: its instance id is its own, the disk's copy not.
    instance = instance_id(settings)
    return imds.machine_id_of(instance) if instance else None


def _kept(file: Path) -> str | None:
    """Only looked at: a file that cannot be used is the agent's to set aside."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(kept["machine_id"]) if isinstance(kept, dict) and "machine_id" in kept else None


def instance_id(settings: Settings) -> str:
    """Return this cloud machine's own id; "" where there is none, or where notices are not heeded."""
    if settings.interruption is Interruption.NONE:
        return ""
    return imds.instance_id(settings.metadata_endpoint, METADATA_TIMEOUT_S) or ""
