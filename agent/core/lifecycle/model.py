"""The agent's life as values: the displayed state, a shutdown and its drain, and how the process ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from agent.errors import ExitCode


class DisplayedState(str, Enum):
    """Where the machine stands, as `/status` shows it. READY means leased, whatever is offered."""

    STARTING = "STARTING"
    PREPARING = "PREPARING"
    CONNECTING = "CONNECTING"
    REGISTERING = "REGISTERING"
    READY = "READY"
    BACKOFF = "BACKOFF"
    DRAINING = "DRAINING"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


FINAL = frozenset({DisplayedState.STOPPED, DisplayedState.FAILED})


class ShutdownKind(str, Enum):
    """Why the agent is leaving."""

    STOP = "stop"
    """A signal: the machine may well come back."""
    HAND_OVER = "hand_over"
    """Another agent takes over at once; workers are left alone."""
    LEAVE = "leave"
    """A person wants the machine to go and to stay away."""
    LEAVE_IDLE = "leave_when_idle"
    """As LEAVE, once the last worker has ended by itself."""
    TERMINATE = "terminate"
    """The cloud takes the machine away."""


class DrainPhase(str, Enum):
    """How far leaving has come; only ever forward."""

    LOOKING = "looking"
    """Nothing is offered any more; are there workers?"""
    WAITING = "waiting"
    """Workers end by themselves, however long that takes."""
    ENDING = "ending"
    """Workers were told to end, and have time to."""
    FORCING = "forcing"
    """What is left of them is removed."""
    FAREWELL = "farewell"
    """The gateway is told that the machine goes."""


@dataclass(frozen=True)
class Shutdown:
    """How the agent leaves. The deadline only ever shrinks."""

    kind: ShutdownKind
    since_s: float
    deadline_at_s: float
    """Infinite while waiting for workers to end by themselves."""
    reason: str
    phase: DrainPhase = DrainPhase.LOOKING
    phase_since_s: float = 0.0
    stops: int = 0
    """How often a signal asked; the second one ends at once."""
    mark: bool = False
    """Whether the machine must stay away afterwards."""
    marking: bool = False
    marked: bool = False


@dataclass(frozen=True)
class NodeDrain:
    """What was done to make room on the machine's own Kubernetes, and what is left there."""

    cordoned: bool | None = None
    """As last set from here; None: not known."""
    cordoning: bool = False
    cordon_at_s: float = 0.0
    workers: int | None = None
    """Workers on the node, as last counted in the present step; None: not counted yet."""
    told: bool = False
    """The workers were told to end."""
    number: int = 0
    """Of the latest question; an answer to an earlier one is stale."""
    asking: bool = False
    asked_at_s: float = 0.0
    ask_at_s: float = 0.0
    list_error: str | None = None
    """Why the workers could not be counted or told."""
    cordon_error: str | None = None


@dataclass(frozen=True)
class ExitDecision:
    """The last decision: what the process ends with, and why."""

    exit_code: ExitCode
    reason: str
