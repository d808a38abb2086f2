"""Everything that can happen to the agent. Threads and signal handlers only create these and queue them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from agent.core.hairpin.model import HairpinFault
from agent.core.host.facts import GpuReading, HostFacts, KubeLogins, NodeFacts, TailnetFacts
from agent.core.lifecycle.model import ShutdownKind
from agent.core.machine_api.wire import Outcome
from agent.core.tunnel.faults import Fault
from agent.core.tunnel.model import Holder, Purpose


@dataclass(frozen=True)
class Tick:
    """Time has passed, so something may be due."""


@dataclass(frozen=True)
class FactsRead:
    """The machine's facts were read; with an error they were not, and what was read before stands."""

    host: HostFacts | None
    gpus: GpuReading | None
    error: str | None = None


@dataclass(frozen=True)
class LinkLoggedIn:
    """The server accepted an ssh child's login; its forwards are being set up."""

    purpose: Purpose
    generation: int


@dataclass(frozen=True)
class LinkComplained:
    """A running ssh child complained of something that explains why a forward does not answer."""

    purpose: Purpose
    generation: int
    fault: Fault


@dataclass(frozen=True)
class LinkEnded:
    """An ssh child exited, or could not be started."""

    purpose: Purpose
    generation: int
    fault: Fault


class Answer(str, Enum):
    """How a probe ended."""

    ANSWERED = "answered"
    CLOSED = "closed"
    """The connection was closed without an answer: the way there works, its far end does not."""
    SILENT = "silent"
    """Nothing came within the time limit."""
    BEYOND_SILENT = "beyond_silent"
    """Nothing came from the far end, although the way there works."""
    NOT_LISTENING = "not_listening"
    """Refused on this machine: nothing listens at the near end."""
    DENIED = "denied"
    """It answered and refused the token."""
    UNWELL = "unwell"
    """It answered that it is unhealthy."""


REACHED = frozenset({Answer.ANSWERED, Answer.DENIED, Answer.UNWELL})
"""The far end answered, whatever it said."""


@dataclass(frozen=True)
class Probe:
    """The result of one probe; `took_s` in seconds."""

    answer: Answer
    took_s: float = 0.0
    text: str = ""


@dataclass(frozen=True)
class ApiProbed:
    """The gateway's health was asked for through the api link."""

    generation: int
    probe: Probe


@dataclass(frozen=True)
class ReverseProbed:
    """The machine's own Kubernetes was probed through the gateway's side, with the registered token."""

    generation: int
    probe: Probe


@dataclass(frozen=True)
class ContestProbed:
    """A candidate address that was taken was asked who holds it."""

    candidate: int
    holder: Holder


@dataclass(frozen=True)
class HairpinChecked:
    """The hairpin was checked, and made or repaired where that was necessary; with a fault it could not be."""

    lets_in: bool
    fault: HairpinFault | None = None
    containers: str | None = None
    """Why containers cannot be reached although the hairpin works."""
    k3s_missed: str | None = None
    """Why k3s, which answers on this machine, was not reached through the hairpin; None: it was, or was not tried."""
    uncut: bool = False
    """Connections to k3s that should have been cut are still open."""
    inspected: bool = True
    """Routes and packet filters were read."""


@dataclass(frozen=True)
class KubeProbed:
    """The machine's own Kubernetes was probed directly. `token_serial` counts the tokens that the gateway was to get.

    `node` is what was read last (None: it never could be); `no_node` says that the cluster has none for this machine.
    `error` says why it could not be read again, or why the token could not be renewed. `logins` are those of that time
    (None: not read).
    """

    probe: Probe
    node: NodeFacts | None = None
    token_serial: int = 0
    error: str | None = None
    logins: KubeLogins | None = None
    no_node: str | None = None


@dataclass(frozen=True)
class KubeLoginsRead:
    """The gateway's token for a Kubernetes that is not probed was read; with an error it was not, or not again."""

    logins: KubeLogins
    token_serial: int = 0
    error: str | None = None


@dataclass(frozen=True)
class TailscaledQueried:
    """tailscaled was asked for its status. Without `with_peers` that says nothing about the gateway's peer."""

    facts: TailnetFacts
    with_peers: bool


@dataclass(frozen=True)
class TailnetJoinTried:
    """tailscaled was given the auth key; with an error it was not. Its status shows later whether it was accepted."""

    error: str | None = None


@dataclass(frozen=True)
class CallEnded:
    """The gateway answered a call, or did not."""

    call_id: int
    outcome: Outcome


@dataclass(frozen=True)
class ShutdownRequested:
    """A signal or a person (`leave`) asked the agent to shut down."""

    kind: ShutdownKind
    reason: str
    restart: bool = False
    """With a hand-over: the next agent is the service manager's to start, which an exit code must tell it."""


class NoticeKind(str, Enum):
    """What a cloud says about the machine's future."""

    TERMINATE = "terminate"
    REBALANCE = "rebalance"
    """It recommends to move work away from the machine."""
    LIFTED = "lifted"
    """The announcement no longer stands."""


@dataclass(frozen=True)
class NoticeReceived:
    """What the cloud announces has changed. `deadline_at_s` is on the clock of `step`; None: none was named."""

    kind: NoticeKind
    reason: str
    deadline_at_s: float | None = None
    comes_back: bool = False
    """The same machine may be started again (a spot instance that is stopped)."""


@dataclass(frozen=True)
class NodeCordoned:
    """The node was cordoned or uncordoned; with an error it was not."""

    is_cordoned: bool
    error: str | None = None


@dataclass(frozen=True)
class WorkersListed:
    """The gateway's workers on the node were counted; with an error they could not be (None)."""

    number: int
    count: int | None
    error: str | None = None
    to_come: int = 0
    """Its Jobs that are not over, and pods that no node has yet."""


@dataclass(frozen=True)
class JobsCleared:
    """Jobs that would bring back a worker from before the start were looked for; those found were deleted.

    With an error they could not be looked for, or not all deleted.
    """

    found: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class StopWritten:
    """The stop marker is on disk; with an error it is not."""

    error: str | None = None


Event = (
    Tick
    | FactsRead
    | LinkLoggedIn
    | LinkComplained
    | LinkEnded
    | ApiProbed
    | ReverseProbed
    | ContestProbed
    | HairpinChecked
    | KubeProbed
    | KubeLoginsRead
    | TailscaledQueried
    | TailnetJoinTried
    | CallEnded
    | ShutdownRequested
    | NoticeReceived
    | NodeCordoned
    | WorkersListed
    | JobsCleared
    | StopWritten
)
