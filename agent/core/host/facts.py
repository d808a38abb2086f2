"""What adapters found out about this machine, as plain values. Nothing here decides anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Gpu:
    """One board as NVML sees it. Figures that NVML would not give are None ("not supported" is no failure)."""

    uuid: str
    name: str
    healthy: bool = True
    reason: str | None = None
    """Why it is not healthy, for a person."""
    utilization_pct: float | None = None
    memory_used_mib: int | None = None
    memory_total_mib: int | None = None
    temperature_c: int | None = None


@dataclass(frozen=True)
class GpuReading:
    """All boards, or the last known ones with the problem that kept us from reading them now."""

    gpus: tuple[Gpu, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class HostFacts:
    """The whole machine, before any reserve is subtracted."""

    cpu_millicores: int
    memory_mib: int
    disk_total_bytes: int = 0
    disk_free_bytes: int = 0
    cpu_utilization_pct: float = 0.0
    memory_utilization_pct: float = 0.0
    private_ip: str = ""
    container_count: int = 0
    """Containers that a Docker Engine runs here, beside those of Kubernetes."""


@dataclass(frozen=True)
class NodeFacts:
    """The machine's Kubernetes node and the gateway's worker pods on it."""

    ready: bool = True
    schedulable: bool = True
    pressures: tuple[str, ...] = ()
    """Conditions that keep work away, for example DiskPressure."""
    gpus_capacity: int = 0
    """What the device plugin registered, with those that it found unhealthy since."""
    gpus_allocatable: int = 0
    """What it advertises for use; MIG included, since it advertises slices rather than boards."""
    gpus_requested: int = 0
    """Held by pods that are scheduled here and have not ended."""
    worker_count: int = 0
    container_count: int = 0


@dataclass(frozen=True)
class KubeLogins:
    """Which logins there are for the machine's own Kubernetes, as the files are now."""

    has_token: bool = False
    """There is a token for the gateway, or a kubeconfig to make one with, be it only named and not there yet."""
    administers: bool = False
    """Node and pods can be acted on: there is a kubeconfig that can be used."""
    cluster: int = 0
    """Counts the clusters that the kubeconfig has named; nothing done to an earlier one holds for the next."""


class DaemonState(str, Enum):
    """How far tailscaled has come."""

    ABSENT = "absent"
    """Nobody answers on its socket."""
    NEEDS_LOGIN = "needs_login"
    KEY_EXPIRED = "key_expired"
    NEEDS_APPROVAL = "needs_approval"
    """The control server waits for a person to approve the machine."""
    STOPPED = "stopped"
    """Told to be down (`tailscale down`)."""
    STARTING = "starting"
    RUNNING = "running"


@dataclass(frozen=True)
class PeerFacts:
    """The gateway's side of the tailnet, as this machine's tailscaled knows it."""

    name: str
    address: str
    online: bool
    """Connected to the control server."""
    key_expired: bool = False
    direct: bool | None = None
    """False: by way of a relay; None: no traffic yet, so not known."""
    relay: str = ""
    """The relay's region, where one is used or would be."""


@dataclass(frozen=True)
class TailnetFacts:
    """What tailscaled says of itself."""

    state: DaemonState
    text: str = ""
    """Why it is not better, in its own words."""
    name: str = ""
    """This machine's full name in the tailnet, without a dot at its end."""
    address: str = ""
    tailnet: str = ""
    version: str = ""
    key_expires_in_s: float | None = None
    """Seconds until the machine's key expires, at the moment of reading; None: it does not, or is not known."""
    userspace: bool = False
    """Without a network interface: the machine's own programs do not reach the tailnet."""
    peer: PeerFacts | None = None
    """The gateway; None: no peer is called that, or peers were not asked for."""
