"""Everything the agent knows, as one frozen value. Only `step` makes a new one.

Each part's own module says what it means; who may write which part is in agent/core/__init__.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.core.config import Config, Connection
from agent.core.hairpin.model import Hairpin
from agent.core.host.facts import GpuReading, HostFacts
from agent.core.kubernetes.model import Kube
from agent.core.lifecycle.model import DisplayedState, ExitDecision, NodeDrain, Shutdown
from agent.core.machine_api.model import Call, Lease, Offer, Registration
from agent.core.tailnet.model import Tailnet
from agent.core.tunnel.model import Contest, Fallback, Link, Purpose


@dataclass(frozen=True)
class AgentState:
    """The whole state of the agent at one moment."""

    config: Config
    displayed: DisplayedState = DisplayedState.STARTING
    since_s: float = 0.0
    """When `displayed` last changed."""
    born_at_s: float = 0.0
    host: HostFacts | None = None
    gpus: GpuReading = field(default_factory=GpuReading)
    gpu_floor: int = 0
    """Most GPUs offered to the gateway so far: never lowered under running workers (the gateway subtracts unsigned)."""
    reading: bool = False
    """The machine's facts are being read."""
    facts_at_s: float = 0.0
    """When they are read next."""
    api: Link = field(default_factory=Link)
    reverse: Link = field(default_factory=Link)
    data: Link = field(default_factory=Link)
    denied_at_s: float | None = None
    """When sshd last refused the key, or its host key was refused here; None since a login succeeded."""
    candidate: int = 0
    """Which of the addresses is tried for the reverse path; counts on, modulo their number."""
    detour: str | None = None
    """Why the reverse path has moved on from the previous address."""
    contest: Contest | None = None
    """The address that was last found taken, until it is known to be free."""
    fallback: Fallback = field(default_factory=Fallback)
    hairpin: Hairpin = field(default_factory=Hairpin)
    kube: Kube = field(default_factory=Kube)
    tailnet: Tailnet = field(default_factory=Tailnet)
    offer: Offer = field(default_factory=Offer)
    call: Call | None = None
    calls: int = 0
    """Calls made so far; the number of the latest."""
    call_retry_at_s: float = 0.0
    """No call is made before this time."""
    misses: int = 0
    """Failed calls in a row, for the pause before the next."""
    refused: bool = False
    """The last call was refused: resolve the token again before the next."""
    path_verified: bool = False
    """The reverse path has answered at least once with the registered token."""
    gateway_error: str | None = None
    last_error: str | None = None
    last_error_at_s: float | None = None
    registration: Registration = field(default_factory=Registration)
    lease: Lease = field(default_factory=Lease)
    shutdown: Shutdown | None = None
    node_drain: NodeDrain = field(default_factory=NodeDrain)
    rebalance: str | None = None
    """The cloud's recommendation to move work away from this machine, while it stands."""
    exit_decision: ExitDecision | None = None

    @property
    def address(self) -> str | None:
        """Where the gateway's side reaches this machine's k3s; None if that is not known."""
        if self.config.connection is Connection.TAILSCALE:
            return self.tailnet.address or None
        if not self.config.addresses:
            return None
        return self.config.addresses[self.candidate % len(self.config.addresses)]

    def link(self, purpose: Purpose) -> Link:
        """Return the link for one purpose."""
        return {Purpose.API: self.api, Purpose.REVERSE: self.reverse, Purpose.DATA: self.data}[purpose]
