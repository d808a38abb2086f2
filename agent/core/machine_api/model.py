"""What the gateway is told and what it has answered: the offer, the registration, the lease, the call in flight."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class CallKind(str, Enum):
    """What is asked of the gateway. One call at a time, ever."""

    CHECK = "check"
    REGISTER = "register"
    KEEPALIVE = "keepalive"
    FAREWELL = "farewell"
    """A registration that offers nothing and that no keepalive follows."""


@dataclass(frozen=True)
class Capacity:
    """What the machine has to give, after the reserve."""

    cpu_millicores: int = 0
    memory_mib: int = 0
    gpu_count: int = 0
    free_gpu_count: int = 0


@dataclass(frozen=True)
class Offer:
    """Everything or nothing; with nothing, the reason for a person."""

    offered: bool = False
    reason: str | None = "starting"
    by: str | None = field(default=None, compare=False)
    """What stands in the way, in one word, for metrics: a text for people would make a new series each time."""


@dataclass(frozen=True)
class Advertisement:
    """What a registration tells the gateway. A difference from the last one means registering again."""

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
    """What the gateway was told, and whether it still knows."""

    checked: bool = False
    known: bool = False
    times: int = 0
    failures: int = 0
    advertisement: Advertisement | None = None
    at_s: float = 0.0
    gateway_config: bool | None = None
    """Whether the reply carried the gateway's configuration (so: whether directRedisHost is set)."""
    quiet: bool = True
    """No keepalive was sent since: the gateway lists the machine as registered only."""


@dataclass(frozen=True)
class Lease:
    """The gateway's promise to keep us listed."""

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
