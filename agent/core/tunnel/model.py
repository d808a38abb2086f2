"""A link: one OpenSSH child, or the way to the gateway where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from agent.core.tunnel.faults import Fault


class Purpose(str, Enum):
    """What a link is for. One OpenSSH child per purpose, so that none of them can take another down."""

    API = "api"
    REVERSE = "reverse"
    DATA = "data"


class LinkPhase(str, Enum):
    """How far a link has come. UP means that an answer came through it, not that a process lives."""

    DOWN = "down"
    STARTING = "starting"
    UP = "up"


class Holder(str, Enum):
    """Who answers at an address of this machine that sshd refused to give it."""

    TWIN = "twin"
    """A k3s with this machine's own certificate, and yet not through its own session."""
    STRANGER = "stranger"
    """Something else."""
    SILENT = "silent"
    """A session that accepts and does not answer: a dead one of this machine, most likely."""
    NOBODY = "nobody"


@dataclass(frozen=True)
class Contest:
    """An address of this machine that somebody else holds."""

    candidate: int
    """Which of the addresses."""
    probe_at_s: float
    probing: bool = False
    holder: Holder | None = None
    """As last probed; None: not known."""


@dataclass(frozen=True)
class Fallback:
    """Why the reverse path leads to k3s alone instead of to any port (reverse_form.py)."""

    reason: str | None = None
    """What sshd or the relay lack; None: nothing, as far as is known."""
    trial_at_s: float = 0.0
    """When any port is tried again."""
    trials: int = 0
    """How often in a row any port did not work."""
    refusals: int = 0
    """Binds in a row that sshd refused."""
    verified: bool = False
    """The relay has answered at least once."""


@dataclass(frozen=True)
class Link:
    """One ssh child (or, without ssh, just the way to the gateway), and its condition."""

    phase: LinkPhase = LinkPhase.DOWN
    child: bool = False
    """An ssh process of this generation was started and has not been reported to have ended."""
    generation: int = 0
    """Counts the attempts; events of an earlier one are ignored."""
    attempt: int = 0
    """Failures in a row, for the backoff."""
    retry_at_s: float = 0.0
    started_at_s: float = 0.0
    logged_in_at_s: float | None = None
    up_since_s: float | None = None
    down_since_s: float | None = None
    """When the present outage began; None while up."""
    conflict_since_s: float | None = None
    """Since when another process has held the link's local port."""
    answered_at_s: float | None = None
    probing: bool = False
    probe_at_s: float = 0.0
    probe_s: float | None = None
    """How long the last answer took."""
    silent: int = 0
    """Probes in a row without any answer."""
    refusals: int = 0
    """Probes in a row that the far side closed."""
    missed_at_s: float | None = None
    """When the first of these was missed; None: the last one was answered."""
    any_port: bool = False
    """Whether the reverse child was started for any port of this machine, not for its k3s alone."""
    hurry: bool = False
    """Whether the next attempt gives each address only a moment: the last one was overdue before it had tried all."""
    session: bool = True
    """Whether the child opens a session channel; False once the server refused one."""
    fault: Fault | None = None
    last_complaint: Fault | None = None
    """The running child's last complaint on stderr; explains a probe that was closed."""
    restarts: tuple[tuple[str, int], ...] = ()
    """How often the link failed, by the kind of fault."""
