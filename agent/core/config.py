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
    """How the machine's own Kubernetes is used."""

    AUTO = "auto"
    REQUIRED = "required"
    NONE = "none"


class ReverseMode(str, Enum):
    """What the reverse forward reaches on this machine."""

    AUTO = "auto"
    """Any port where that is possible, else k3s alone."""
    ANY_PORT = "any-port"
    K3S = "k3s"


@dataclass(frozen=True)
class Config:
    """The settings, as far as decisions need them. Never changes while the agent runs."""

    machine_id: str
    pool_name: str
    provider_name: str = "generic"
    connection: Connection = Connection.DIRECT
    k3s: K3sMode = K3sMode.AUTO
    hostname: str | None = None
    """What the gateway is told to dial, if the settings name it."""
    addresses: tuple[str, ...] = ()
    """Candidates for the reverse path, in order; exactly one if the settings name it."""
    uses_gpus: bool = True
    """Whether GPUs that the machine has must work before anything is offered."""
    reverse: ReverseMode = ReverseMode.K3S
    reserve_cpu_millicores: int = 500
    reserve_memory_mib: int = 1024
    joins_tailnet: bool = False
    """Whether there is an auth key for logging in to the tailnet."""
    data: bool = False
    """Whether forwards for worker pods are configured."""
    once: bool = False
    heeds_rebalance: bool = True
    version: str = ""
