"""The machines that the gateway knows and their leases: its Redis entries, as plain values.

Time is passed in; nothing is locked or logged. The statuses are those of the real gateway: `pending` (for an hour after
`machine create`) → `registered` → `ready` (renewed by every keepalive). An expired entry vanishes silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

PENDING, REGISTERED, READY = "pending", "registered", "ready"


class MachineNotFoundError(LookupError):
    """No entry under that key; the message is what the gateway sends."""


class NoMetricsError(ValueError):
    """A keepalive without metrics: the machine was marked ready, but its lease was not renewed."""


@dataclass(frozen=True)
class Pool:
    """A worker pool in the gateway's configuration, and the size of its workers."""

    name: str = "gpu"
    provider: str = "generic"
    gpu_type: str = "A10G"
    """Empty: a pool without GPUs."""
    worker_cpu_millicores: int = 1000
    worker_memory_mib: int = 1024
    worker_gpu_count: int = 1
    runtime: str = ""
    """The pool's RuntimeClass, usually `nvidia`."""


@dataclass(frozen=True)
class Registration:
    """What a register call provides: the capacity, and how to reach the machine's k3s."""

    hostname: str
    token: str
    cpu_millicores: int
    memory_mib: int
    gpu_count: int
    private_ip: str = ""


@dataclass(frozen=True)
class Machine:
    """One entry. `created` and `last_keepalive` are Unix seconds as text, as in the gateway."""

    machine_id: str
    provider: str
    pool_name: str
    gpu_type: str
    status: str
    expires_at_s: float
    created: str
    hostname: str = ""
    token: str = field(default="", repr=False)
    cpu_millicores: int = 0
    memory_mib: int = 0
    gpu_count: int = 0
    private_ip: str = ""
    registration_token: str = field(default="", repr=False)
    last_keepalive: str = ""
    agent_version: str = ""
    metrics: dict[str, Any] | None = None
    registrations: int = 0
    keepalives: int = 0

    @property
    def key(self) -> str:
        """The entry's key in Redis."""
        return machine_key(self.provider, self.pool_name, self.machine_id)

    def placement_blocker(self, pool: Pool) -> str | None:
        """Return why no worker can be placed here regardless of demand, or None if one can."""
        if self.provider != pool.provider:
            return f"provider {self.provider!r} is not the pool's {pool.provider!r}"
        if self.status != READY:
            return f"status is {self.status}"
        if self.cpu_millicores <= 0 or self.memory_mib <= 0:
            return "no cpu or memory is offered"
        if pool.gpu_type and self.gpu_count == 0:
            return "no GPU in a GPU pool"
        return None


def machine_key(provider: str, pool_name: str, machine_id: str) -> str:
    """Return the key of an entry in Redis."""
    return f"provider:machine:{provider}:{pool_name}:{machine_id}"


class MachineRegistry:
    """The entries of all pools. `ttl_s` is the lease of registered and ready machines."""

    def __init__(self, ttl_s: float = 300, pending_ttl_s: float = 3600) -> None:
        self.ttl_s = ttl_s
        self.pending_ttl_s = pending_ttl_s
        self._entries: dict[str, Machine] = {}

    def create(self, pool: Pool, machine_id: str, token: str, now_s: float, unix_s: float) -> Machine:
        """Create a pending entry, as `machine create` does."""
        return self._put(
            Machine(
                machine_id=machine_id,
                provider=pool.provider,
                pool_name=pool.name,
                gpu_type=pool.gpu_type,
                status=PENDING,
                expires_at_s=now_s + self.pending_ttl_s,
                created=str(int(unix_s)),
                registration_token=token,
            )
        )

    def register(  # noqa: PLR0913, PLR0917 - the three parts of the key, and two clocks
        self,
        provider: str,
        pool: Pool,
        machine_id: str,
        registration: Registration,
        now_s: float,
        unix_s: float,
    ) -> Machine:
        """Create the entry, or replace its token, hostname and capacity; `registered` until the next keepalive."""
        known = self.get(provider, pool.name, machine_id, now_s) or Machine(
            machine_id=machine_id,
            provider=provider,
            pool_name=pool.name,
            gpu_type=pool.gpu_type,
            status=REGISTERED,
            expires_at_s=now_s,
            created=str(int(unix_s)),
        )
        return self._put(
            replace(
                known,
                **vars(registration),
                gpu_type=pool.gpu_type,
                status=REGISTERED,
                expires_at_s=now_s + self.ttl_s,
                registrations=known.registrations + 1,
            )
        )

    def keepalive(
        self,
        key: str,
        agent_version: str,
        metrics: dict[str, Any] | None,
        now_s: float,
        unix_s: float,
    ) -> Machine:
        """Make the machine ready and renew its lease.

        Raises: MachineNotFoundError; NoMetricsError, although the machine has been marked ready by then.
        """
        known = self._live(now_s).get(key)
        if known is None:
            raise MachineNotFoundError(f"failed to get machine state <{key}>: machine not found")
        marked = replace(
            known,
            status=READY,
            last_keepalive=str(int(unix_s)),
            agent_version=agent_version,
            keepalives=known.keepalives + 1,
        )
        self._put(marked)
        if metrics is None:
            raise NoMetricsError("metrics are missing")
        return self._put(replace(marked, metrics=metrics, expires_at_s=now_s + self.ttl_s))

    def get(self, provider: str, pool_name: str, machine_id: str, now_s: float) -> Machine | None:
        """Return a live entry, or None."""
        return self._live(now_s).get(machine_key(provider, pool_name, machine_id))

    def all(self, now_s: float) -> tuple[Machine, ...]:
        """Return every live entry, including pending ones, in order of creation."""
        return tuple(self._live(now_s).values())

    def find(self, machine_id: str, now_s: float) -> Iterator[Machine]:
        """Return every entry with that id: one per provider and pool that it registered with."""
        return (entry for entry in self.all(now_s) if entry.machine_id == machine_id)

    def delete(self, key: str) -> bool:
        """Remove an entry but not its token, which stays valid. Return False if there was none."""
        return self._entries.pop(key, None) is not None

    def wipe(self) -> None:
        """Lose every machine at once, as when the gateway's Redis restarts."""
        self._entries.clear()

    def _put(self, entry: Machine) -> Machine:
        self._entries[entry.key] = entry
        return entry

    def _live(self, now_s: float) -> dict[str, Machine]:
        for key in [key for key, entry in self._entries.items() if entry.expires_at_s <= now_s]:
            del self._entries[key]
        return self._entries
