"""Everything the agent knows, as one frozen value. `step` is the only thing that makes a new one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from agent.core.host.facts import DaemonState, GpuReading, HostFacts, KubeLogins, NodeFacts, TailnetFacts
from agent.core.tunnel.faults import Trouble
from agent.errors import Exit


class State(str, Enum):
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


FINAL = frozenset({State.STOPPED, State.FAILED})


class Connection(str, Enum):
    """How the gateway is reached."""

    SSH = "ssh"
    TAILSCALE = "tailscale"
    DIRECT = "direct"


class K3sMode(str, Enum):
    """What to do about the machine's own Kubernetes."""

    AUTO = "auto"
    REQUIRED = "required"
    NONE = "none"


@dataclass(frozen=True)
class Setup:
    """What the settings say, as far as decisions need it. Never changes while the agent runs."""

    machine_id: str
    pool_name: str
    provider_name: str = "generic"
    connection: Connection = Connection.DIRECT
    k3s: K3sMode = K3sMode.AUTO
    hostname: str | None = None
    """What the gateway is told to dial, where the settings name it."""
    addresses: tuple[str, ...] = ()
    """Candidates for the reverse path, in order; exactly one where the settings name it."""
    reserve_cpu_millicores: int = 500
    reserve_memory_mib: int = 1024
    joins_tailnet: bool = False
    """Whether there is a key to log in to the tailnet with."""
    data: bool = False
    """Whether worker pods asked for forwards of their own."""
    once: bool = False
    heeds_rebalance: bool = True
    version: str = ""


class Purpose(str, Enum):
    """One OpenSSH child per purpose, so that none of them can take another down."""

    API = "api"
    REVERSE = "reverse"
    DATA = "data"


class Phase(str, Enum):
    """A link's own life. UP means that an answer came through it, not that a process lives."""

    DOWN = "down"
    STARTING = "starting"
    UP = "up"


@dataclass(frozen=True)
class Link:
    """One ssh child (or, without ssh, just the way to the gateway) and how it is doing."""

    phase: Phase = Phase.DOWN
    child: bool = False
    """An ssh process of this generation was started and has not been heard to end."""
    generation: int = 0
    attempt: int = 0
    """Failures in a row, for the backoff."""
    retry_at_s: float = 0.0
    started_at_s: float = 0.0
    logged_in_at_s: float | None = None
    up_since_s: float | None = None
    down_since_s: float | None = None
    """When the present outage began; None while up."""
    conflict_since_s: float | None = None
    answered_at_s: float | None = None
    probing: bool = False
    probe_at_s: float = 0.0
    probe_s: float | None = None
    """How long the last answer took."""
    silent: int = 0
    refusals: int = 0
    session: bool = True
    """Whether the child opens a session channel; False once the server refused one."""
    trouble: Trouble | None = None
    said: Trouble | None = None
    """What the living child last complained of; explains a probe that was closed."""
    restarts: tuple[tuple[str, int], ...] = ()


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
class Promise:
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
    promise: Promise | None = None


@dataclass(frozen=True)
class Registration:
    """What the gateway was told, and whether it still knows."""

    checked: bool = False
    known: bool = False
    times: int = 0
    failures: int = 0
    promise: Promise | None = None
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


@dataclass(frozen=True)
class Kube:
    """The machine's own Kubernetes, as probed locally with the token that the gateway gets."""

    expected: bool = False
    looked: bool = False
    answering: bool = False
    failures: int = 0
    probing: bool = False
    probe_at_s: float = 0.0
    probe_s: float | None = None
    since_s: float | None = None
    trouble: str | None = None
    logins: KubeLogins = field(default_factory=KubeLogins)
    """As last looked at: a kubeconfig comes, changes and goes while the agent runs."""
    token_serial: int = 0
    node: NodeFacts | None = None
    node_bad_since_s: float | None = None
    node_trouble: str | None = None
    problem: str | None = None
    """What could not be read or renewed although the API answers."""


@dataclass(frozen=True)
class Tailnet:
    """The machine's place in its tailnet, as its tailscaled says."""

    facts: TailnetFacts | None = None
    """As last heard; the gateway's side in it as last asked for."""
    seen_at_s: float | None = None
    peers_at_s: float | None = None
    """When the gateway's side was last asked for."""
    looking: bool = False
    look_at_s: float = 0.0
    failures: int = 0
    """Looks in a row to which nobody answered."""
    name: str = ""
    """Full name in the tailnet, as last known."""
    address: str = ""
    missing: DaemonState | None = None
    """Which login was missing when tailscaled last said so; None since it runs."""
    joining: bool = False
    join_at_s: float = 0.0
    joins: int = 0
    """Logins that were tried since the last that held."""
    join_trouble: str | None = None


class GoingKind(str, Enum):
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


class Step(str, Enum):
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
class Going:
    """How the agent leaves. The deadline only ever shrinks."""

    kind: GoingKind
    since_s: float
    deadline_at_s: float
    """Infinite while waiting for workers to end by themselves."""
    reason: str
    step: Step = Step.LOOKING
    step_at_s: float = 0.0
    stops: int = 0
    """How often a signal asked; the second one ends at once."""
    mark: bool = False
    """Whether the machine must stay away afterwards."""
    marking: bool = False
    marked: bool = False


@dataclass(frozen=True)
class Room:
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
    trouble: str | None = None
    """Why the workers could not be counted or told."""
    cordon_trouble: str | None = None


@dataclass(frozen=True)
class Ending:
    """The last decision: what the process ends with, and why."""

    exit_code: Exit
    reason: str


@dataclass(frozen=True)
class Worker:
    """The agent's whole knowledge at one moment."""

    setup: Setup
    state: State = State.STARTING
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
    gateway_trouble: str | None = None
    last_error: str | None = None
    last_error_at_s: float | None = None
    registration: Registration = field(default_factory=Registration)
    lease: Lease = field(default_factory=Lease)
    going: Going | None = None
    room: Room = field(default_factory=Room)
    rebalance: str | None = None
    """Why the cloud would rather have the machine empty, while it says so."""
    ending: Ending | None = None

    @property
    def address(self) -> str | None:
        """Where the gateway's side reaches this machine's k3s, None where that is not known."""
        if self.setup.connection is Connection.TAILSCALE:
            return self.tailnet.address or None
        if not self.setup.addresses:
            return None
        return self.setup.addresses[self.candidate % len(self.setup.addresses)]

    def link(self, purpose: Purpose) -> Link:
        """The link for one purpose."""
        return {Purpose.API: self.api, Purpose.REVERSE: self.reverse, Purpose.DATA: self.data}[purpose]
