"""Everything the agent knows, as one frozen value. `step` is the only thing that makes a new one."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.core.config import Config, Connection
from agent.core.host.facts import GpuReading, HostFacts
from agent.core.kubernetes.model import Kube
from agent.core.lifecycle.model import DisplayedState, ExitDecision, NodeDrain, Shutdown
from agent.core.machine_api.model import Call, Lease, Offer, Registration
from agent.core.tailnet.model import Tailnet
from agent.core.tunnel.model import Link, Purpose


@dataclass(frozen=True)
class AgentState:
    """The agent's whole knowledge at one moment."""

    config: Config
    displayed: DisplayedState = DisplayedState.STARTING
    since_s: float = 0.0
    born_at_s: float = 0.0
    host: HostFacts | None = None
    gpus: GpuReading = field(default_factory=GpuReading)
    gpu_floor: int = 0
    """Most GPUs offered to the gateway so far: never lowered under running workers (it subtracts unsigned)."""
    reading: bool = False
    facts_at_s: float = 0.0
    api: Link = field(default_factory=Link)
    reverse: Link = field(default_factory=Link)
    data: Link = field(default_factory=Link)
    denied_at_s: float | None = None
    """When sshd last refused the key, or we its identity; None since a login succeeded."""
    candidate: int = 0
    detour: str | None = None
    """Why the reverse path is not at the address tried before the present one."""
    kube: Kube = field(default_factory=Kube)
    tailnet: Tailnet = field(default_factory=Tailnet)
    offer: Offer = field(default_factory=Offer)
    call: Call | None = None
    calls: int = 0
    call_retry_at_s: float = 0.0
    misses: int = 0
    """Failed calls in a row, for the pause before the next."""
    refused: bool = False
    """The last call was refused: resolve the secret anew before the next."""
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
    """Why the cloud would rather have the machine empty, while it says so."""
    exit_decision: ExitDecision | None = None

    @property
    def address(self) -> str | None:
        """Where the gateway's side reaches this machine's k3s, None where that is not known."""
        if self.config.connection is Connection.TAILSCALE:
            return self.tailnet.address or None
        if not self.config.addresses:
            return None
        return self.config.addresses[self.candidate % len(self.config.addresses)]

    def link(self, purpose: Purpose) -> Link:
        """The link for one purpose."""
        return {Purpose.API: self.api, Purpose.REVERSE: self.reverse, Purpose.DATA: self.data}[purpose]
