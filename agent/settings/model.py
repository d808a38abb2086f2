"""The settings as the rest of the agent sees them: one immutable value with typed fields."""

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
    JumpHost,
    K3sMode,
    LifecycleHook,
    ReverseMode,
    SecretRef,
)


@dataclass(frozen=True, eq=False)
class Settings:
    """All settings, as returned by `load`. agent/settings/fields/ describes each; docs/settings.md shows the same."""

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
    ssh_jump: tuple[JumpHost, ...]
    """The hosts to go through to the SSH host, the first one dialled from here."""
    ssh_key: SecretRef | None
    ssh_known_hosts: SecretRef | None
    ssh_host_key_fingerprint: str | None
    """Comma-separated, without spaces."""
    ssh_target: HostPort
    ssh_forwards: tuple[Forward, ...]
    reverse_bind: str
    """`auto`, or an address on the SSH host."""
    reverse: ReverseMode
    hairpin: str
    """A /30, as text."""
    hostname: str | None
    tailscale_url: str | None
    """Without trailing slash; None: the control server that tailscaled is configured with."""
    tailscale_auth: SecretRef | None
    tailscale_socket: Path
    k3s: K3sMode
    kubeconfig: Path | None
    k3s_token: SecretRef | None
    k3s_api: HostPort
    """This machine's own k3s API, the target of the reverse forward."""
    expected_gpus: int | None
    """0: none are to be used; None: as many as the driver sees."""
    reserve_cpu_millicores: int
    reserve_memory_mib: int
    interruption: Interruption
    rebalance: str
    """`drain` or `ignore`."""
    aws_launch_hook: LifecycleHook | None
    aws_termination_hook: LifecycleHook | None
    metadata_endpoint: str
    """Base URL, without trailing slash."""
    drain_timeout_s: float
    state_dir: Path
    status_addr: HostPort
    """Port 0: the system chooses a free one."""
    log_format: str | None
    """`json`, `text`, or None: text on a terminal, otherwise JSON."""
    log_level: str
    once: bool
    dry_run: bool
    policy: Policy
    """Timings, including the keepalive interval, the drain timeout and BETA9_TUNING."""
    warnings: tuple[str, ...] = ()
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables with which this process's own calls to clouds use the site's proxy. May hold a password."""
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For people: the source of each value that was given, by field name."""
