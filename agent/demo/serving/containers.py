"""The containers that the gateway has handed to workers, or will: plain values, without locks or I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

FUNCTION, ENDPOINT, POD = "function", "endpoint", "pod"


@dataclass
class WorkerPort:
    """Where a worker listens, by the machine's name, and since when the gateway knows."""

    address: str
    known_at_s: float


@dataclass
class Container:
    """One container, as the gateway sees it."""

    container_id: str
    kind: str
    """`function` (only its log), `endpoint` (ready when GET /health answers 200), `pod` (when a connect succeeds)."""
    command: list[str]
    port: int | None = None
    """Inside the container."""
    machine_id: str | None = None
    """Only workers on this machine may take it."""
    worker_id: str = ""
    address: str = ""
    """Its published port, by the machine's name."""
    lines: list[str] = field(default_factory=list)
    """The log, as it came through the worker's port."""
    exit_code: int | None = None
    error: str = ""
    """What the user sees if the worker cannot be dialled, or the log breaks off."""
    ready: bool = False
    refused_probes: int = 0
    longest_probe_s: float = 0.0

    @property
    def is_over(self) -> bool:
        return self.exit_code is not None or bool(self.error)


def next_for(containers: Iterable[Container], machine_id: str) -> Container | None:
    """Return the oldest container that no worker has and that a worker on this machine may take."""
    return next((c for c in containers if not c.worker_id and c.machine_id in {None, machine_id}), None)


def split_address(address: str) -> tuple[str, int]:
    """Return the host and port of `host:port`."""
    host, _, port = address.rpartition(":")
    return host, int(port)
