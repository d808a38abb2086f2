"""What the core wants done. The supervisor executes each effect and queues its result as an event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.core.machine_api.model import CallKind
from agent.core.tunnel.model import Purpose
from agent.errors import ExitCode


@dataclass(frozen=True)
class StartLink:
    """Start the ssh child for a purpose. Results in LinkLoggedIn and, sooner or later, LinkEnded."""

    purpose: Purpose
    generation: int
    address: str | None
    session: bool
    hurry: bool = False
    """Whether each address of the server's name gets only a moment: the last attempt ended before it had tried all."""
    any_port: bool = False
    """Whether the reverse child leads to any port of this machine, not to its k3s alone."""


@dataclass(frozen=True)
class StopLink:
    """Stop the ssh child of a purpose. No event is expected; a late LinkEnded is ignored."""

    purpose: Purpose
    generation: int
    reason: str


@dataclass(frozen=True)
class ProbeApi:
    """Ask for the gateway's health through the api link. Results in ApiProbed."""

    generation: int
    timeout_s: float
    spare: int | None = None
    """Which candidate address nobody listens on: an echo from there tells a silent gateway from a dead tunnel."""


@dataclass(frozen=True)
class ProbeReverse:
    """Probe the machine's own Kubernetes through the gateway's side. Results in ReverseProbed."""

    generation: int
    candidate: int
    timeout_s: float
    address: str | None = None
    """Where the gateway's side reaches this machine."""


@dataclass(frozen=True)
class ProbeContest:
    """Find out who answers at a candidate address that is taken. Sends no token. Results in ContestProbed."""

    candidate: int
    timeout_s: float


@dataclass(frozen=True)
class CheckHairpin:
    """Make the hairpin, or check and repair it. Results in HairpinChecked.

    `lets_in`: connections to k3s are let through; otherwise they are rejected, and those that are open are cut.
    `tries_k3s`: also connect to k3s, which logs every connection without a request. `inspects`: also read routes and
    packet filters; a check that finds something wrong does so anyway.
    """

    lets_in: bool
    tries_k3s: bool
    inspects: bool
    timeout_s: float


@dataclass(frozen=True)
class ProbeKube:
    """Probe the machine's own Kubernetes directly. Results in KubeProbed."""

    timeout_s: float


@dataclass(frozen=True)
class ReadKubeLogins:
    """Read the gateway's token for a Kubernetes that is not probed (BETA9_K3S=none). Results in KubeLoginsRead."""


@dataclass(frozen=True)
class QueryTailscaled:
    """Ask tailscaled for its status, `with_peers` also for the gateway's peer. Results in TailnetSeen."""

    with_peers: bool
    timeout_s: float


@dataclass(frozen=True)
class JoinTailnet:
    """Have tailscaled log in with the configured auth key. Results in TailnetJoinTried."""

    timeout_s: float


@dataclass(frozen=True)
class ReadFacts:
    """Read the machine's facts. Results in FactsRead."""

    with_containers: bool = True
    """Also ask the Docker Engine; not at the start, which loading its library would hold up."""


@dataclass(frozen=True)
class CallGateway:
    """Make one call with this body. Results in CallEnded. A registration's body lacks only the k3s token, a secret."""

    call_id: int
    kind: CallKind
    timeout_s: float
    body: dict[str, Any] = field(default_factory=dict)
    fresh_secret: bool = False
    """Resolve the gateway's token again before the call."""


@dataclass(frozen=True)
class CordonNode:
    """Cordon the node; or uncordon it, if it was this agent that had cordoned it. Results in NodeCordoned."""

    is_cordoned: bool
    timeout_s: float


@dataclass(frozen=True)
class ClearJobs:
    """Delete Jobs that would bring back workers from before the agent's start. Results in JobsCleared."""

    timeout_s: float


@dataclass(frozen=True)
class ListWorkers:
    """Count the gateway's workers on the node, and its Jobs. Results in WorkersListed."""

    number: int
    timeout_s: float


@dataclass(frozen=True)
class EndWorkers:
    """Tell the gateway's workers on the node to end within `grace_s` (0: at once), and delete their Jobs.

    Results in WorkersListed, with what is still there.
    """

    number: int
    grace_s: float
    timeout_s: float


@dataclass(frozen=True)
class WriteStop:
    """Write the stop marker: this machine was told to leave. Results in StopWritten."""

    reason: str


@dataclass(frozen=True)
class Exit:
    """End the process with this code."""

    exit_code: ExitCode
    reason: str


Effect = (
    StartLink
    | StopLink
    | ProbeApi
    | ProbeReverse
    | ProbeContest
    | CheckHairpin
    | ProbeKube
    | ReadKubeLogins
    | QueryTailscaled
    | JoinTailnet
    | ReadFacts
    | CallGateway
    | CordonNode
    | ClearJobs
    | ListWorkers
    | EndWorkers
    | WriteStop
    | Exit
)
