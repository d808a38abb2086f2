"""Which machines the gateway knows, and until when: its Redis entries, as plain values.

Pure: the time is handed in, nothing is locked, nothing is logged. Entries live as shared keys do in the real
gateway: `pending` (an hour, from `machine create`) → `registered` → `ready` (refreshed by every keepalive);
an expired entry is gone without notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

PENDING, REGISTERED, READY = "pending", "registered", "ready"


class MachineNotFoundError(LookupError):
    """No entry under that key; the text is the one that the gateway sends."""


class NoMetricsError(ValueError):
    """A keepalive came without metrics: the machine was marked ready, its lease was not refreshed."""


@dataclass(frozen=True)
class Pool:
    """A worker pool of the gateway's configuration, and the size of the workers it places."""

    name: str = "gpu"
    provider: str = "generic"
    gpu_type: str = "A10G"
    """Empty: a pool without GPUs."""
    worker_cpu_millicores: int = 1000
    worker_memory_mib: int = 1024
    worker_gpu_count: int = 1
    runtime: str = ""
    """The RuntimeClass that the pool names, `nvidia` on most."""


@dataclass(frozen=True)
class Registration:
    """What a register call gives: the capacity and the way to the machine's k3s."""

    hostname: str
    token: str
    cpu_millicores: int
    memory_mib: int
    gpu_count: int
    private_ip: str = ""


@dataclass(frozen=True)
class Machine:
    """One entry. `created` and `last_keepalive` are Unix seconds as text, as the gateway keeps them."""

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
        return machine_key(self.provider, self.pool_name, self.machine_id)

    def why_nothing_is_placed(self, pool: Pool) -> str | None:
        """Why no worker can come here however many are wanted; None when one can."""
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
    return f"provider:machine:{provider}:{pool_name}:{machine_id}"


@dataclass
class MachineRegistry:
    """The entries of all pools. `ttl_s` is the lease of registered and ready machines."""

    ttl_s: float = 300
    pending_ttl_s: float = 3600
    _entries: dict[str, Machine] = field(default_factory=dict)

    def create(self, pool: Pool, machine_id: str, token: str, now_s: float, unix_s: float) -> Machine:
        """A pending entry, as `machine create` makes it."""
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
        self, provider: str, pool: Pool, machine_id: str, said: Registration, now_s: float, unix_s: float
    ) -> Machine:
        """Make the entry, or replace its token, host name and capacity; `registered` until a keepalive."""
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
                **vars(said),
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
        """Make the machine ready and refresh its lease.

        Raises: MachineNotFoundError; NoMetricsError after the machine has been marked ready all the same.
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
        return self._live(now_s).get(machine_key(provider, pool_name, machine_id))

    def all(self, now_s: float) -> tuple[Machine, ...]:
        """Every live entry, pending ones, too, in the order in which they were made."""
        return tuple(self._live(now_s).values())

    def find(self, machine_id: str, now_s: float) -> Iterator[Machine]:
        """Every entry with that id: one for each provider and pool that it registered with."""
        return (entry for entry in self.all(now_s) if entry.machine_id == machine_id)

    def delete(self, key: str) -> bool:
        """Remove an entry, and nothing else: its token works on. False if there was none."""
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
