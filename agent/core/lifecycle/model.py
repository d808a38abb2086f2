"""The agent's life as values: the displayed state, a shutdown and its drain, and how the process ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from agent.errors import ExitCode


class DisplayedState(str, Enum):
    """The state of the machine as `/status` shows it. READY means leased, whatever is offered."""

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
    """Who or what asked for the shutdown, and what follows from that."""

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
    """How far a drain has come; only ever forward."""

    LOOKING = "looking"
    """Nothing is offered any more; workers are being counted."""
    WAITING = "waiting"
    """Workers end by themselves, however long that takes."""
    ENDING = "ending"
    """Workers were told to end, and have time to."""
    FORCING = "forcing"
    """Workers that are left, and their Jobs, are removed."""
    FAREWELL = "farewell"
    """The gateway is told that the machine goes."""


@dataclass(frozen=True)
class Shutdown:
    """A shutdown under way. The deadline only ever moves closer."""

    kind: ShutdownKind
    since_s: float
    deadline_at_s: float
    """Infinite while waiting for workers to end by themselves."""
    reason: str
    phase: DrainPhase = DrainPhase.LOOKING
    phase_since_s: float = 0.0
    stops: int = 0
    """How often a signal asked; the second one ends the process at once."""
    mark: bool = False
    """Whether the machine must stay away afterwards."""
    marking: bool = False
    """The stop marker is being written."""
    marked: bool = False
    restart: bool = False
    """The service manager is to start the next agent; see ShutdownRequested."""


@dataclass(frozen=True)
class NodeDrain:
    """What was done to empty the machine's own Kubernetes node, and what is left there."""

    cordoned: bool | None = None
    """As last set by this agent; None: not known."""
    cordoning: bool = False
    """A request to cordon or uncordon is under way."""
    cordon_at_s: float = 0.0
    """Earliest time of the next such request."""
    cleared: bool = False
    """No Job is left that would bring back a worker from before this agent's start."""
    clearing: bool = False
    """Such Jobs are being looked for."""
    clear_at_s: float = 0.0
    """Earliest time of the next look."""
    left_over: tuple[str, ...] = ()
    """Such Jobs that the latest look found, and deleted."""
    clear_error: str | None = None
    """Why they could not be looked for, or deleted."""
    workers: int | None = None
    """Workers on the node, as last counted in the present phase; None: not counted yet."""
    to_come: int = 0
    """Counted with them: Jobs that are not over, and pods that no node has yet."""
    workers_told: bool = False
    """The workers were told to end."""
    number: int = 0
    """Number of the latest request; an answer to an earlier one is ignored."""
    asking: bool = False
    """A request to count or end workers is under way."""
    asked_at_s: float = 0.0
    ask_at_s: float = 0.0
    list_error: str | None = None
    """Why the workers could not be counted or told."""
    cordon_error: str | None = None

    def recounted(self, now_s: float) -> NodeDrain:
        """Return the same with the count forgotten: what was counted in one phase does not decide the next."""
        return replace(self, workers=None, to_come=0, asking=False, ask_at_s=now_s, list_error=None)


@dataclass(frozen=True)
class Waiting:
    """What the machine waits for, for a person: `what` completes "waiting for", `until` completes "ends when"."""

    what: str
    until: str


@dataclass(frozen=True)
class ExitDecision:
    """The last decision: what the process ends with, and why."""

    exit_code: ExitCode
    reason: str
