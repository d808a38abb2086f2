"""The shape of `/status`, which scripts outside the project read. Every `*_s` is seconds of age; None means never."""

from __future__ import annotations

from typing import TypedDict


class GatewayStatus(TypedDict):
    """The gateway as last reached."""

    url: str
    last_ok_s: float | None
    last_error: str | None
    last_error_s: float | None


class LinkStatus(TypedDict):
    """One link of the tunnel."""

    up: bool
    address: str | None
    reason: str | None
    generation: int


class ReverseFormStatus(TypedDict):
    """What the reverse link leads to, and why that is k3s alone."""

    any_port: bool
    reason: str | None
    retry_in_s: float | None


class TunnelStatus(TypedDict):
    """The way to the gateway, and back."""

    connection: str
    up: bool
    generation: int
    restarts: int
    forward: LinkStatus
    reverse: LinkStatus
    reverse_form: ReverseFormStatus
    data: LinkStatus | None


class PeerStatus(TypedDict):
    """The gateway's peer in the tailnet."""

    name: str
    address: str
    online: bool
    key_expired: bool
    direct: bool | None
    relay: str


class TailnetStatus(TypedDict):
    """The machine's place in its tailnet."""

    up: bool
    state: str | None
    reason: str | None
    name: str | None
    address: str | None
    tailnet: str | None
    version: str | None
    key_expires_in_s: int | None
    peer: PeerStatus | None
    seen_s: float | None


class RegistrationStatus(TypedDict):
    """What the gateway was told last."""

    hostname: str | None
    times: int


class KeepaliveStatus(TypedDict):
    """The lease."""

    last_ok_s: float | None
    ttl_s: float | None
    interval_s: float
    failures: int


class CapacityStatus(TypedDict):
    """What the machine has, and whether the gateway was told so."""

    cpu_millicores: int
    memory_mib: int
    gpu_count: int
    free_gpu_count: int
    offered: bool
    reason: str | None


class HeldStatus(TypedDict):
    """What pods other than the gateway's workers request."""

    cpu_millicores: int
    memory_mib: int
    gpus: int


class NodeStatus(TypedDict):
    """The machine's Kubernetes node."""

    name: str
    ready: bool
    schedulable: bool
    pressures: list[str]
    taints: list[str]
    cpu_millicores: int | None
    memory_mib: int | None
    pods_free: int | None
    others: HeldStatus
    gpus_allocatable: int
    gpus_requested: int
    worker_count: int
    container_count: int


class JobStatus(TypedDict):
    """A worker's Job that has no pod, for how long, and what Kubernetes says about it."""

    name: str
    since_s: float
    event: str | None


class KubernetesStatus(TypedDict):
    """The machine's own Kubernetes."""

    expected: bool
    answering: bool
    reason: str | None
    token_serial: int
    node: NodeStatus | None
    jobs_without_pod: list[JobStatus]


class WaitingStatus(TypedDict):
    """What the machine waits for ("waiting for …"), and what ends it ("ends when …")."""

    what: str
    until: str


class FunctionsStatus(TypedDict):
    """Whether a user's function could run here now and return its result."""

    can_run: bool
    reason: str | None


class PlacementStatus(TypedDict):
    """Whether the gateway can place work here now."""

    keepalives_go: bool
    work_can_be_placed: bool
    reason: str | None
    blocked_by: str | None


class GpuStatus(TypedDict):
    """One board."""

    uuid: str
    name: str
    healthy: bool
    reason: str | None
    utilization_pct: float | None
    memory_used_mib: int | None
    memory_total_mib: int | None
    temperature_c: int | None


class InterruptionStatus(TypedDict):
    """What the cloud has announced."""

    kind: str
    reason: str
    deadline_in_s: float | None
    step: str


class DrainStatus(TypedDict):
    """How far a shutdown has come."""

    kind: str
    reason: str
    step: str
    since_s: float | None
    deadline_in_s: float | None
    workers: int | None
    cordoned: bool
    trouble: str | None


class CallCounts(TypedDict):
    """Calls of one kind since the start."""

    ok: int
    failed: int


class Counters(TypedDict):
    """Counts since the start."""

    keepalives: CallCounts
    registrations: CallCounts
    tunnel_restarts: dict[str, int]


class ProbeTimes(TypedDict):
    """How long the last answers took."""

    forward_s: float | None
    reverse_s: float | None
    kubernetes_s: float | None


class Transition(TypedDict):
    """One change of the displayed state."""

    state: str
    age_s: float
    why: str


class Status(TypedDict):
    """All of `/status`."""

    machine_id: str
    pool: str
    state: str
    since_s: float | None
    waiting: WaitingStatus | None
    functions: FunctionsStatus
    gateway: GatewayStatus
    tunnel: TunnelStatus
    tailnet: TailnetStatus | None
    registration: RegistrationStatus
    keepalive: KeepaliveStatus
    capacity: CapacityStatus
    kubernetes: KubernetesStatus
    placement: PlacementStatus
    gpus: list[GpuStatus]
    interruption: InterruptionStatus | None
    drain: DrainStatus | None
    version: str
    degraded: list[str]
    counters: Counters
    probes: ProbeTimes
    transitions: list[Transition]
