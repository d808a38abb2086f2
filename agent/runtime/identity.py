"""Decides this machine's id: configured, or derived from its cloud instance's id, or kept on its disk.

A disk may be copied: an id, or a stop marker, that other hardware wrote is another machine's.
"""

from __future__ import annotations

import json
from pathlib import Path

from agent.adapters.aws import imds
from agent.adapters.host.hardware_ids import read_hardware
from agent.adapters.storage.state_dir import (
    IDENTITY_NAME,
    Identity,
    StateDir,
    StopMarker,
    kept_identity,
)
from agent.settings import Interruption, Settings

METADATA_TIMEOUT_S = 2.0


def machine_id(settings: Settings, state: StateDir) -> Identity:
    """Return this machine's id, generating and keeping one if there is none yet. Its note is for a person."""
    given = _given(settings)
    if given:
        return Identity(given)
    kept = state.machine_id(read_hardware())
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
        kept = kept_identity(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None
    return None if kept is None or kept[1].is_another(read_hardware()) else kept[0]


def is_meant_for_another(marker: StopMarker, settings: Settings) -> bool:
    """Return whether a stop marker came with a copied disk. Where the cloud names both machines, that decides."""
    instance = instance_id(settings) if marker.instance_id else ""
    return instance != marker.instance_id if instance else marker.hardware.is_another(read_hardware())


def instance_id(settings: Settings, timeout_s: float = METADATA_TIMEOUT_S) -> str:
    """Return this machine's instance id; "" if it has none or BETA9_INTERRUPTION is none."""
    if settings.interruption is Interruption.NONE:
        return ""
    return imds.instance_id(settings.metadata_endpoint, timeout_s) or ""


def kept_in_group(settings: Settings, timeout_s: float = METADATA_TIMEOUT_S) -> str:
    """Return what the Auto Scaling group does with a machine that stays away; "" for a machine in none."""
    hook = settings.aws_launch_hook or settings.aws_termination_hook
    if hook is None:
        return ""
    instance = instance_id(settings, timeout_s) or "INSTANCE"
    return (
        f"the Auto Scaling group {hook.group} is not told: it goes on counting this machine, which keeps accruing "
        f"charges. To have it replaced: aws autoscaling set-instance-health --instance-id {instance} --health-status "
        "Unhealthy. To remove it: aws autoscaling terminate-instance-in-auto-scaling-group --instance-id "
        f"{instance} --should-decrement-desired-capacity"
    )
