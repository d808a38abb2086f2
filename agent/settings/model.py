"""The settings as the rest of the agent sees them: one frozen value, every field of its final type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.policy import Policy
from agent.settings.values import (
    Connection,
    Forward,
    HostPort,
    Interruption,
    K3sMode,
    LifecycleHook,
    SecretRef,
)


@dataclass(frozen=True, eq=False)
class Settings:
    """What `load` makes. agent/settings/fields.py explains the fields; docs/settings.md is made from it."""

    token: SecretRef
    pool_name: str
    machine_id: str | None
    provider_name: str
    gateway_host: str
    gateway_port: int
    connection: Connection
    ssh_host: str | None
    ssh_port: int
    ssh_user: str
    ssh_key: SecretRef | None
    ssh_known_hosts: SecretRef | None
    ssh_host_key_fingerprint: str | None
    """Comma-separated, without blanks."""
    ssh_target: HostPort
    ssh_forwards: tuple[Forward, ...]
    reverse_bind: str
    """`auto`, or an address on the gateway's side."""
    hostname: str | None
    tailscale_url: str | None
    """Without a slash at its end; None: whatever control server tailscaled has."""
    tailscale_auth: SecretRef | None
    tailscale_socket: Path
    k3s: K3sMode
    kubeconfig: Path | None
    k3s_token: SecretRef | None
    k3s_api: HostPort
    """Where this machine's own k3s API answers; the reverse forward points there."""
    reserve_cpu_millicores: int
    reserve_memory_mib: int
    interruption: Interruption
    rebalance: str
    """`drain` or `ignore`."""
    aws_launch_hook: LifecycleHook | None
    aws_termination_hook: LifecycleHook | None
    metadata_endpoint: str
    """Base URL, without a slash at its end."""
    drain_timeout_s: float
    state_dir: Path
    status_addr: HostPort
    """Port 0 means that the system chooses."""
    log_format: str | None
    """`json`, `text`, or None: by whether a terminal listens."""
    log_level: str
    once: bool
    dry_run: bool
    policy: Policy
    """With this machine's keepalive interval and drain time-out, and BETA9_TUNING applied."""
    warnings: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Field name to the place its value came from, for people."""
