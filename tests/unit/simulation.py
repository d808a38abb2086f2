"""A world for the core to live in: a gateway, an sshd and a k3s reduced to what the core can see of them.

It stands for the real ones only where thousands of hours have to pass in seconds; the same faults on real
processes are in tests/integration. Time is a number, every result is an event on a heap.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.core.config import Config, Connection
from agent.core.effects import (
    CallGateway,
    CheckHairpin,
    ClearJobs,
    CordonNode,
    Effect,
    EndWorkers,
    Exit,
    ListWorkers,
    ProbeApi,
    ProbeKube,
    ProbeReverse,
    ReadFacts,
    ReadKubeLogins,
    StartLink,
    StopLink,
    WriteStop,
)
from agent.core.events import (
    Answer,
    ApiProbed,
    Event,
    FactsRead,
    KubeLoginsRead,
    KubeProbed,
    LinkComplained,
    LinkEnded,
    LinkLoggedIn,
    Probe,
    StopWritten,
    Tick,
)
from agent.core.host.facts import Gpu, GpuReading, HostFacts, KubeLogins
from agent.core.lifecycle.model import DisplayedState
from agent.core.machine_api.model import CallKind
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.step import step, wake_in_s
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Purpose
from tests.unit.simulated import SSH_NOTICES_S, SYN_AGAIN_S, Entry, Faults, GatewaySide, Session
from tests.unit.simulated_node import NodeSide
from tests.unit.simulated_path import ReversePath


@dataclass
class World(GatewaySide, NodeSide, ReversePath):
    """Runs one worker against the simulated rest. `run_for` lets time pass."""

    seed: int
    config: Config = field(
        default_factory=lambda: Config(
            "1165a9b6",
            "gpu",
            connection=Connection.SSH,
            addresses=tuple(f"127.70.1.{n}" for n in (1, 2, 3, 4)),
        )
    )
    policy: Policy = field(default_factory=Policy)
    kube_logins: KubeLogins = field(default_factory=lambda: KubeLogins(has_token=True))
    """What the files on the machine give just now."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now_s = 1000.0
        self.state = AgentState(self.config, born_at_s=self.now_s, since_s=self.now_s)
        self.faults = Faults()
        self.entry: Entry | None = None
        self.sessions: dict[Purpose, Session] = {}
        self.lingering: list[Session] = []
        self.heap: list[tuple[float, int, Callable[[], Event | None]]] = []
        self.order = itertools.count()
        self.open_calls: dict[int, CallKind] = {}
        self.finish: Exit | None = None
        self.registrations = 0
        self.lets_in = False
        self.logins: list[tuple[float, Purpose]] = []
        """Every time that sshd was asked to let somebody in."""
        self.seen: list[DisplayedState] = []
        self._add_node()
        self.marked: str | None = None
        self.watch: Callable[[World, Event, AgentState, AgentState], None] = lambda *_: None
        self.feed(Tick())

    def restart(self) -> None:
        """Let the process be killed, and the next agent start."""
        for purpose in list(self.sessions):
            self._drop(purpose, noticed=True)
        self.heap, self.open_calls, self.finish = [], {}, None
        self.state = AgentState(self.config, born_at_s=self.now_s, since_s=self.now_s)
        self.feed(Tick())

    # --- Time ----------------------------------------------------------------------------------------------

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        end_s = self.now_s + seconds
        while self.finish is None:
            wake_s = self.now_s + wake_in_s(self.state, self.now_s)
            next_s = min(wake_s, self.heap[0][0] if self.heap else wake_s)
            if next_s > end_s:
                break
            self.now_s = next_s
            if self.heap and self.heap[0][0] <= next_s:
                event = heapq.heappop(self.heap)[2]()
                if event is not None:
                    self.feed(event)
            else:
                self.feed(Tick())
        self.now_s = max(self.now_s, end_s)

    def feed(self, event: Event) -> None:
        """Give the core one event and carry out what it wants."""
        before = self.state
        self._expire()
        self._run_jobs()
        self.state, effects = step(before, event, self.now_s, self.policy, self.random.random())
        if not self.seen or self.seen[-1] is not self.state.displayed:
            self.seen.append(self.state.displayed)
        self.watch(self, event, before, self.state)
        for effect in effects:
            self._do(effect)

    def later(self, seconds: float, event: Callable[[], Event | None]) -> None:
        heapq.heappush(self.heap, (self.now_s + seconds, next(self.order), event))

    # --- What the core wants -------------------------------------------------------------------------------

    def _do(self, effect: Effect) -> None:  # noqa: C901, PLR0912 - one line for each command
        match effect:
            case ReadFacts():
                facts = FactsRead(HostFacts(8000, 32000), GpuReading((Gpu("GPU-0", "H100"),)))
                self.later(0.02, lambda: facts)
            case StartLink():
                self._start(effect)
            case StopLink(purpose=purpose):
                self._drop(purpose, noticed=not self.faults.link)
            case ProbeApi():
                self._probe_api(effect)
            case ProbeReverse():
                self._probe_reverse(effect)
            case CheckHairpin():
                self.later(0.1, lambda: self._check_hairpin(effect))
            case ProbeKube():
                is_let_in = Answer.ANSWERED if self.kube_logins.has_token else Answer.DENIED
                answer = {"": is_let_in, "refuse": Answer.NOT_LISTENING, "hang": Answer.SILENT}[
                    self.faults.k3s
                ]
                took_s = effect.timeout_s if answer is Answer.SILENT else 0.01
                self.later(took_s, lambda: self._kube_probed(Probe(answer, took_s)))
            case ReadKubeLogins():
                self.later(0.01, lambda: KubeLoginsRead(self.kube_logins))
            case CallGateway():
                self._call(effect)
            case CordonNode(is_cordoned=is_cordoned):
                self.later(0.05, lambda: self._cordon(is_cordoned))
            case ClearJobs():
                self.later(0.05, self._clear)
            case ListWorkers(number=number):
                self.later(0.05, lambda: self._see(number, None))
            case EndWorkers(number=number, grace_s=grace_s):
                self.later(0.05, lambda: self._see(number, grace_s))
            case WriteStop(reason=reason):
                self.marked = reason
                self.later(0.01, StopWritten)
            case Exit():
                self.finish = effect

    def _kube_probed(self, probe: Probe) -> Event:
        is_read = probe.answer is Answer.ANSWERED and self.kube_logins.administers
        return KubeProbed(probe, self._node() if is_read else self.state.kube.node, logins=self.kube_logins)

    def _start(self, effect: StartLink) -> None:
        self._drop(effect.purpose, noticed=True)
        self._connect(effect, SYN_AGAIN_S)

    def _connect(self, effect: StartLink, again_s: tuple[float, ...]) -> None:
        purpose, generation = effect.purpose, effect.generation

        def end(kind: FaultKind) -> Callable[[], Event]:
            return lambda: LinkEnded(purpose, generation, Fault(kind, kind.value))

        if self.state.link(purpose).generation != generation or not self.state.link(purpose).child:
            return  # ended meanwhile
        if self.faults.link and again_s:
            self.later(again_s[0], lambda: self._connect(effect, again_s[1:]))
        elif self.faults.link:
            self.later(self.policy.ssh_connect_timeout_s - sum(SYN_AGAIN_S), end(FaultKind.UNREACHABLE))
        elif self.faults.sshd:
            self.later(0.02, end(FaultKind.REFUSED))
        elif self.faults.auth:
            self.logins.append((self.now_s, purpose))
            self.later(0.2, end(FaultKind.AUTH))
        elif (effect.address is not None and self._is_held(effect.address)) or (
            effect.any_port and self.faults.no_1080
        ):
            self.later(0.2, end(FaultKind.BIND))
        else:
            self.logins.append((self.now_s, purpose))
            prohibited, any_port = self.faults.permit_open, effect.any_port
            self.sessions[purpose] = Session(
                generation, effect.address, prohibited=prohibited, any_port=any_port
            )
            self.later(0.2, lambda: LinkLoggedIn(purpose, generation))

    def _is_held(self, address: str) -> bool:
        return any(s.address == address for s in [*self.lingering, *self.sessions.values()])

    def _drop(self, purpose: Purpose, noticed: bool) -> None:
        session = self.sessions.pop(purpose, None)
        if session is None:
            return
        session.dead_since_s = self.now_s if session.dead_since_s is None else session.dead_since_s
        if not noticed or session.stopped:
            session.stopped = False
            self.lingering.append(session)

    def _probe_api(self, effect: ProbeApi) -> None:
        session = self.sessions.get(Purpose.API)
        if session is None:
            probe = Probe(Answer.NOT_LISTENING)
        elif self.faults.link:
            probe = Probe(Answer.SILENT, effect.timeout_s)
        elif session.prohibited:
            fault = Fault(FaultKind.PERMIT_OPEN, "prohibited")
            self.later(0.005, lambda: LinkComplained(Purpose.API, effect.generation, fault))
            probe = Probe(Answer.CLOSED, 0.01)
        else:
            probe = {
                "": Probe(Answer.ANSWERED, 0.01),
                "401": Probe(Answer.ANSWERED, 0.01),
                "refuse": Probe(Answer.CLOSED, 0.01),
                "hang": Probe(Answer.BEYOND_SILENT, effect.timeout_s),
                "500": Probe(Answer.UNWELL, 0.01),
            }[self.faults.gateway]
        self.later(probe.took_s or 0.001, lambda: ApiProbed(effect.generation, probe))

    # --- Faults that end sessions --------------------------------------------------------------------------

    def cut(self) -> None:
        """The link goes dead in both directions; both ends notice by themselves after a while."""
        self.faults.link = True
        for purpose, session in list(self.sessions.items()):
            session.dead_since_s = self.now_s
            generation = session.generation
            self.later(SSH_NOTICES_S, lambda p=purpose, g=generation: self._noticed(p, g))  # type: ignore[misc]

    def _noticed(self, purpose: Purpose, generation: int) -> Event | None:
        session = self.sessions.get(purpose)
        if session is None or session.generation != generation:
            return None
        if not self.faults.link:
            session.dead_since_s = None
            return None
        self._drop(purpose, noticed=False)
        return LinkEnded(purpose, generation, Fault(FaultKind.LOST, "lost"))

    def kill(self, purpose: Purpose) -> None:
        """The child (or its session) is killed."""
        session = self.sessions.get(purpose)
        if session is not None:
            self._drop(purpose, noticed=True)
            self.feed(LinkEnded(purpose, session.generation, Fault(FaultKind.LOST, "lost")))

    def stop_reverse_session(self) -> None:
        """sshd's session for the reverse path is stopped: the address is held, and silent."""
        session = self.sessions.get(Purpose.REVERSE)
        if session is not None:
            session.stopped = True
