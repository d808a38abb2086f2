"""What the gateway is told and what it has answered: the offer, the registration, the lease, the call in flight."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class CallKind(str, Enum):
    """The calls to the gateway. Never more than one at a time."""

    CHECK = "check"
    REGISTER = "register"
    KEEPALIVE = "keepalive"
    FAREWELL = "farewell"
    """A registration that offers nothing and that no keepalive follows."""


@dataclass(frozen=True)
class Capacity:
    """What the machine has to give, after the reserve is subtracted."""

    cpu_millicores: int = 0
    memory_mib: int = 0
    gpu_count: int = 0
    free_gpu_count: int = 0


@dataclass(frozen=True)
class Offer:
    """Everything, or nothing and the reason, for a person."""

    offered: bool = False
    reason: str | None = "starting"
    by: str | None = field(default=None, compare=False)
    """The reason in one word, for metrics: a text for people would make a new series each time."""


@dataclass(frozen=True)
class Advertisement:
    """What a registration tells the gateway. If it differs from the last one, the machine registers again."""

    hostname: str
    capacity: Capacity
    offered: bool
    token_serial: int = 0


@dataclass(frozen=True)
class Call:
    """The call in flight."""

    call_id: int
    kind: CallKind
    deadline_at_s: float
    advertisement: Advertisement | None = None


@dataclass(frozen=True)
class Registration:
    """What the gateway was told, and whether it still knows the machine."""

    checked: bool = False
    """Route and token were checked."""
    known: bool = False
    """The gateway knows the machine, as far as it has said."""
    times: int = 0
    failures: int = 0
    """Failed checks, registrations and farewells since the start."""
    advertisement: Advertisement | None = None
    at_s: float = 0.0
    gateway_config: bool | None = None
    """Whether the reply carried the gateway's configuration (which shows whether directRedisHost is set)."""
    quiet: bool = True
    """No keepalive was sent since: the gateway lists the machine as registered, not as ready."""

    @property
    def offered(self) -> bool:
        """Whether the last registration offered anything."""
        return self.advertisement is not None and self.advertisement.offered


@dataclass(frozen=True)
class Lease:
    """How long the gateway keeps the machine listed."""

    ready: bool = False
    """A keepalive was accepted since the machine was last unknown."""
    last_ok_s: float | None = None
    expires_at_s: float | None = None
    next_at_s: float = 0.0
    oks: int = 0
    failures: int = 0
    """Failed keepalives in a row."""
    failed: int = 0
    """Failed keepalives since the start."""
