"""What adapters read about this machine, as plain values. Nothing here decides anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Gpu:
    """One board as NVML sees it. Figures that NVML does not give are None ("not supported" is not a failure)."""

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
    """All boards; with an error, the last known ones, since they could not be read now."""

    gpus: tuple[Gpu, ...] = ()
    error: str | None = None
    driver_appeared: bool = False
    """The driver was loaded after the agent's container was started, which only a new container can use."""


@dataclass(frozen=True)
class HostFacts:
    """The whole machine, before the reserve is subtracted."""

    cpu_millicores: int
    memory_mib: int
    disk_total_bytes: int = 0
    disk_free_bytes: int = 0
    cpu_utilization_pct: float = 0.0
    memory_utilization_pct: float = 0.0
    private_ip: str = ""
    container_count: int = 0
    """Containers that a Docker Engine runs here, besides those of Kubernetes."""


@dataclass(frozen=True)
class Held:
    """What pods request of a node, whether or not they use it."""

    cpu_millicores: int = 0
    memory_mib: int = 0
    gpus: int = 0


@dataclass(frozen=True)
class PodlessJob:
    """One of the gateway's worker Jobs on this machine that has no pod."""

    name: str
    age_s: float
    """How long it had none at the moment of reading, at most."""
    event: str | None = None
    """What Kubernetes says about it, as "REASON: MESSAGE"."""


@dataclass(frozen=True)
class NodeFacts:
    """The machine's Kubernetes node and the gateway's worker pods on it."""

    name: str = ""
    ready: bool = True
    schedulable: bool = True
    pressures: tuple[str, ...] = ()
    """Conditions that keep work away, for example DiskPressure."""
    taints: tuple[str, ...] = ()
    """Taints that keep the gateway's workers away, as kubectl writes them: KEY[=VALUE]:EFFECT."""
    cpu_millicores: int | None = None
    """Allocatable: what the kubelet leaves to pods. None: it has not reported that."""
    memory_mib: int | None = None
    """Allocatable, hence without huge pages and the kubelet's own reservations."""
    pods_free: int | None = None
    """How many more pods the kubelet takes."""
    gpus_capacity: int = 0
    """What the device plugin registered, including those that it has found unhealthy since."""
    gpus_allocatable: int = 0
    """What it advertises for use: with MIG, slices instead of boards."""
    gpus_requested: int = 0
    """Held by pods that are scheduled here and have not ended."""
    others: Held = Held()
    """What pods request that are not the gateway's workers."""
    worker_count: int = 0
    waiting_count: int | None = None
    """The gateway's workers in the cluster that are not scheduled yet; None: not known."""
    container_count: int = 0
    podless: tuple[PodlessJob, ...] = ()
    """The gateway's worker Jobs on this machine that have no pod."""


@dataclass(frozen=True)
class KubeLogins:
    """The logins for the machine's own Kubernetes, as its files are now."""

    has_token: bool = False
    """There is a token for the gateway, or a kubeconfig to make one with (perhaps configured and not written yet)."""
    administers: bool = False
    """There is a usable kubeconfig, so node and pods can be changed."""
    cluster: int = 0
    """Counts the clusters that the kubeconfig has named; nothing done to one holds for the next."""


class DaemonState(str, Enum):
    """How far tailscaled has come."""

    ABSENT = "absent"
    """Nothing answers on its socket."""
    NEEDS_LOGIN = "needs_login"
    KEY_EXPIRED = "key_expired"
    NEEDS_APPROVAL = "needs_approval"
    """The control server waits for a person to approve the machine."""
    STOPPED = "stopped"
    """Switched off (`tailscale down`)."""
    STARTING = "starting"
    RUNNING = "running"


@dataclass(frozen=True)
class PeerFacts:
    """The gateway's peer in the tailnet, as this machine's tailscaled knows it."""

    name: str
    address: str
    online: bool
    """Connected to the control server."""
    key_expired: bool = False
    direct: bool | None = None
    """False: through a relay; None: no traffic yet, so not known."""
    relay: str = ""
    """The region of the relay that is used, or would be."""


@dataclass(frozen=True)
class TailnetFacts:
    """What tailscaled reports about itself."""

    state: DaemonState
    text: str = ""
    """Why it is not running, in its own words."""
    name: str = ""
    """This machine's full name in the tailnet, without the final dot."""
    address: str = ""
    tailnet: str = ""
    version: str = ""
    key_expires_in_s: float | None = None
    """Seconds until the machine's key expires, at the moment of reading; None: it does not, or is not known."""
    userspace: bool = False
    """Without a network interface: programs on the machine do not reach the tailnet."""
    peer: PeerFacts | None = None
    """The gateway; None: no peer has that name, or peers were not asked for."""
