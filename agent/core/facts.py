"""What adapters found out about this machine, as plain values. Nothing here decides anything."""

from __future__ import annotations

from dataclasses import dataclass


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
    problem: str | None = None


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
