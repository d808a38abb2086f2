"""What the settings say, as far as decisions need it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Connection(str, Enum):
    """How the gateway is reached."""

    SSH = "ssh"
    TAILSCALE = "tailscale"
    DIRECT = "direct"


class K3sMode(str, Enum):
    """What to do about the machine's own Kubernetes."""

    AUTO = "auto"
    REQUIRED = "required"
    NONE = "none"


@dataclass(frozen=True)
class Config:
    """What the settings say, as far as decisions need it. Never changes while the agent runs."""

    machine_id: str
    pool_name: str
    provider_name: str = "generic"
    connection: Connection = Connection.DIRECT
    k3s: K3sMode = K3sMode.AUTO
    hostname: str | None = None
    """What the gateway is told to dial, where the settings name it."""
    addresses: tuple[str, ...] = ()
    """Candidates for the reverse path, in order; exactly one where the settings name it."""
    reserve_cpu_millicores: int = 500
    reserve_memory_mib: int = 1024
    joins_tailnet: bool = False
    """Whether there is a key to log in to the tailnet with."""
    data: bool = False
    """Whether worker pods asked for forwards of their own."""
    once: bool = False
    heeds_rebalance: bool = True
    version: str = ""
