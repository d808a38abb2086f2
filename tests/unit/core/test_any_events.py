"""Whatever happens, in whatever order and at whatever time, some things never do.

Events are drawn freely (stale generations, answers nobody asked for, clocks that leap), mixed with answers to
what the core last asked for, so that the sequences also get as far as READY and beyond.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.config import Config, Connection, K3sMode
from agent.core.effects import (
    CallGateway,
    CordonNode,
    Effect,
    EndWorkers,
    Exit,
    JoinTailnet,
    ListWorkers,
    ProbeApi,
    ProbeKube,
    ProbeReverse,
    QueryTailscaled,
    ReadFacts,
    ReadKubeLogins,
    StartLink,
    StopLink,
    WriteStop,
)
from agent.core.events import (
    Answer,
    ApiProbed,
    CallEnded,
    Event,
    FactsRead,
    KubeLoginsRead,
    KubeProbed,
    LinkComplained,
    LinkEnded,
    LinkLoggedIn,
    NodeCordoned,
    NoticeKind,
    NoticeReceived,
    Probe,
    ReverseProbed,
    ShutdownRequested,
    StopWritten,
    TailnetJoinTried,
    TailscaledQueried,
    Tick,
    WorkersListed,
)
from agent.core.host.facts import (
    DaemonState,
    Gpu,
    GpuReading,
    HostFacts,
    KubeLogins,
    NodeFacts,
    PeerFacts,
    TailnetFacts,
)
from agent.core.lifecycle.model import FINAL, DisplayedState, DrainPhase, ShutdownKind
from agent.core.machine_api.model import CallKind
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.status import status
from agent.core.step import step, wake_in_s
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Purpose
from agent.errors import ExitCode

POLICY = Policy()
ADDRESSES = tuple(f"127.70.1.{n}" for n in (1, 2, 3, 4))
HOST = FactsRead(HostFacts(8000, 32000), GpuReading((Gpu("GPU-0", "H100"),)))

# --- Any event -------------------------------------------------------------------------------------------

purposes = st.sampled_from(Purpose)
generations = st.integers(-1, 6)
troubles = st.builds(Fault, st.sampled_from(FaultKind), st.text(max_size=5))
probes = st.builds(Probe, st.sampled_from(Answer), st.floats(0, 100), st.text(max_size=5))
LOGINS = KubeLogins(has_token=True, administers=True, cluster=1)
logins = st.builds(KubeLogins, st.booleans(), st.booleans(), st.integers(0, 2))
nodes = st.none() | st.builds(
    NodeFacts,
    ready=st.booleans(),
    schedulable=st.booleans(),
    pressures=st.sampled_from([(), ("DiskPressure",)]),
    gpus_allocatable=st.integers(0, 8),
    worker_count=st.integers(0, 3),
)
outcomes = st.builds(
    Outcome,
    st.sampled_from(OutcomeKind),
    st.text(max_size=5),
    ttl_s=st.none() | st.floats(0.001, 1e5),
    retry_after_s=st.none() | st.floats(0, 1e6),
    gateway_config=st.none() | st.booleans(),
)
gpus = st.builds(Gpu, st.sampled_from(["GPU-0", "GPU-1"]), st.just("H100"), st.booleans())
facts = st.builds(
    FactsRead,
    st.builds(HostFacts, st.integers(0, 10**9), st.integers(0, 10**9)),
    st.builds(
        GpuReading,
        st.lists(gpus, max_size=2, unique_by=lambda gpu: gpu.uuid).map(tuple),
        st.none() | st.text(),
    ),
)
peers = st.builds(
    PeerFacts, st.just("gateway.tail.example"), st.just("100.64.0.1"), st.booleans(), st.booleans()
)
tailnets = st.builds(
    TailnetFacts,
    st.sampled_from(DaemonState),
    st.text(max_size=5),
    name=st.sampled_from(["", "worker.tail.example"]),
    address=st.sampled_from(["", "100.64.0.2"]),
    key_expires_in_s=st.none() | st.floats(-1e6, 1e6),
    userspace=st.booleans(),
    peer=st.none() | peers,
)
goings = st.builds(ShutdownRequested, st.sampled_from(ShutdownKind), st.just("SIGTERM"))
notices = st.builds(
    NoticeReceived,
    st.sampled_from(NoticeKind),
    st.just("taken away"),
    st.none() | st.floats(-100, 5000),
    st.booleans(),
)
problems = st.none() | st.just("no answer")
events: st.SearchStrategy[Event] = st.one_of(
    st.just(Tick()),
    facts,
    st.builds(LinkLoggedIn, purposes, generations),
    st.builds(LinkComplained, purposes, generations, troubles),
    st.builds(LinkEnded, purposes, generations, troubles),
    st.builds(ApiProbed, generations, probes),
    st.builds(ReverseProbed, generations, probes),
    st.builds(KubeProbed, probes, nodes, st.integers(0, 3), problems, st.none() | logins),
    st.builds(KubeLoginsRead, logins, st.integers(0, 3), problems),
    st.builds(CallEnded, st.integers(-1, 12), outcomes),
    goings,
    notices,
    st.builds(NodeCordoned, st.booleans(), problems),
    st.builds(WorkersListed, st.integers(-1, 12), st.none() | st.integers(0, 3), problems),
    st.builds(StopWritten, problems),
    st.builds(TailscaledQueried, tailnets, st.booleans()),
    st.builds(TailnetJoinTried, problems),
)


@dataclass(frozen=True)
class Well:
    """The oldest open question gets the good answer."""


@dataclass(frozen=True)
class Badly:
    """The oldest open question gets such an answer."""

    outcome: Outcome
    probe: Probe
    fault: Fault
    tailnet: TailnetFacts


Move = Well | Badly | Event

# Mostly short, sometimes absurd: a suspended machine, a clock that was set.
pauses = st.one_of(st.just(0.0), st.floats(0, 5), st.floats(0, 400), st.sampled_from([1e9, -1.0, -1e9]))
anything: st.SearchStrategy[Move] = st.one_of(
    st.just(Well()), st.just(Well()), st.builds(Badly, outcomes, probes, troubles, tailnets), events
)
# Good answers first, as many as they may be: mischief meets every stage of a life.
moves = st.builds(
    lambda well, rest: [(0.05, Well())] * well + rest,
    st.integers(0, 30),
    st.lists(st.tuples(pauses, anything), max_size=40),
)
Moves = list[tuple[float, Move]]
setups = st.builds(
    Config,
    machine_id=st.just("1165a9b6"),
    pool_name=st.just("gpu"),
    connection=st.sampled_from(Connection),
    k3s=st.sampled_from(K3sMode),
    hostname=st.none() | st.just("worker.example"),
    addresses=st.sampled_from([ADDRESSES, ADDRESSES[:1]]),
    joins_tailnet=st.booleans(),
    data=st.booleans(),
    once=st.booleans(),
    heeds_rebalance=st.booleans(),
)
jitters = st.floats(0, 1, exclude_max=True)


WELL = Badly(
    Outcome(OutcomeKind.OK, ttl_s=300.0, gateway_config=True),
    Probe(Answer.ANSWERED, 0.01),
    Fault(FaultKind.LOST, ""),
    TailnetFacts(DaemonState.RUNNING, name="worker.tail.example", address="100.64.0.2"),
)


def answer(effect: Effect, move: Well | Badly) -> Event:
    """What comes of a command."""
    said = move if isinstance(move, Badly) else WELL
    makers: dict[type, Callable[[Any], Event]] = {
        ReadFacts: lambda _: HOST,
        StartLink: lambda c: (
            LinkLoggedIn(c.purpose, c.generation)
            if said is WELL
            else LinkEnded(c.purpose, c.generation, said.fault)
        ),
        ProbeApi: lambda c: ApiProbed(c.generation, said.probe),
        ProbeReverse: lambda c: ReverseProbed(c.generation, said.probe),
        ProbeKube: lambda _: KubeProbed(said.probe, logins=LOGINS if said is WELL else None),
        ReadKubeLogins: lambda _: (
            KubeLoginsRead(LOGINS, 1) if said is WELL else KubeLoginsRead(KubeLogins(), error="not there")
        ),
        QueryTailscaled: lambda c: TailscaledQueried(said.tailnet, c.with_peers),
        JoinTailnet: lambda _: TailnetJoinTried(None if said is WELL else "no answer"),
        CallGateway: lambda c: CallEnded(c.call_id, said.outcome),
        CordonNode: lambda c: NodeCordoned(c.is_cordoned, None if said is WELL else "refused"),
        ListWorkers: lambda c: WorkersListed(c.number, 0 if said is WELL else 2),
        EndWorkers: lambda c: WorkersListed(c.number, 0 if said is WELL else 2),
        WriteStop: lambda _: StopWritten(None if said is WELL else "disk full"),
    }
    return makers[type(effect)](effect)


@dataclass
class InFlight:
    """A call that was made and has not ended; the adapter ends it at `ends_at_s` at the latest."""

    kind: CallKind
    ends_at_s: float


@dataclass
class Life:
    """One worker and all that is known of it from outside."""

    config: Config
    jitter: float = 0.5
    now_s: float = 1000.0
    open: deque[Effect] = field(default_factory=deque)
    in_flight: dict[int, InFlight] = field(default_factory=dict)
    registered: bool = False
    administers: bool = True
    """Whether a kubeconfig ever comes."""
    effects: tuple[Effect, ...] = ()

    def __post_init__(self) -> None:
        self.state = AgentState(self.config, born_at_s=self.now_s, since_s=self.now_s)

    def go(self, pause_s: float, move: Move) -> AgentState:
        """Make one move; the worker as it was before."""
        event = self._event(move)
        if isinstance(event, (KubeProbed, KubeLoginsRead)) and event.logins and not self.administers:
            event = replace(event, logins=replace(event.logins, administers=False))
        self.now_s += pause_s
        before = self.state
        self.state, self.commands = step(before, event, self.now_s, POLICY, self.jitter)
        if isinstance(event, CallEnded):
            ended = self.in_flight.pop(event.call_id, None)
            is_registration = ended is not None and ended.kind in {CallKind.REGISTER, CallKind.FAREWELL}
            self.registered |= is_registration and event.outcome.kind is OutcomeKind.OK
        if before.shutdown is None and self.state.shutdown is not None:
            # Saying goodbye does not wait for a keepalive's whole time limit.
            for call in self.in_flight.values():
                if call.kind is CallKind.KEEPALIVE:
                    call.ends_at_s = min(call.ends_at_s, self.now_s + POLICY.farewell_s / 2)
        self.in_flight = {i: call for i, call in self.in_flight.items() if self.now_s < call.ends_at_s}
        self.open += [each for each in self.commands if not isinstance(each, (StopLink, Exit))]
        return before

    def _event(self, move: Move) -> Event:
        if not isinstance(move, (Well, Badly)):
            return move
        return answer(self.open.popleft(), move) if self.open else Tick()

    def calls(self) -> list[CallGateway]:
        """The calls that the last move led to; from now on they are in flight."""
        calls = [each for each in self.commands if isinstance(each, CallGateway)]
        self.in_flight |= {each.call_id: InFlight(each.kind, self.now_s + each.timeout_s) for each in calls}
        return calls


@given(setups, moves, jitters)
def test_no_sequence_of_events_leads_where_nothing_may_lead(
    config: Config, sequence: Moves, jitter: float
) -> None:
    life = Life(config, jitter)
    life.go(0.0, Tick())
    for pause_s, move in sequence:
        before = life.go(pause_s, move)
        after = life.state

        if before.displayed in FINAL:
            assert after == before, "something led out of a final state"
            assert life.commands == ()
        if before.displayed is DisplayedState.DRAINING:
            assert after.displayed in {DisplayedState.DRAINING, *FINAL}, "back to service from draining"
        if before.shutdown and after.shutdown:
            assert list(DrainPhase).index(after.shutdown.phase) >= list(DrainPhase).index(
                before.shutdown.phase
            ), "a step back"
            assert after.shutdown.deadline_at_s <= before.shutdown.deadline_at_s, "a drain deadline grew"

        if any(call.kind is CallKind.KEEPALIVE for call in life.calls()):
            assert life.registered, "a keepalive before any registration"
        assert len(life.in_flight) <= 1, f"two calls in flight: {life.in_flight}"

        finishes = [effect for effect in life.commands if isinstance(effect, Exit)]
        assert len(finishes) == (after.displayed in FINAL and before.displayed not in FINAL)
        if finishes:
            assert life.commands[-1] is finishes[0]
            assert (finishes[0].exit_code is ExitCode.OK) == (after.displayed is DisplayedState.STOPPED)
        if after.displayed is DisplayedState.READY:
            assert after.lease.ready
            assert after.registration.known


@given(setups, moves, jitters)
def test_nothing_is_offered_that_could_not_start(config: Config, sequence: Moves, jitter: float) -> None:
    life = Life(config, jitter)
    for pause_s, move in sequence:
        life.go(pause_s, move)
        state = life.state
        if state.displayed in FINAL or not state.offer.offered:
            continue
        assert state.shutdown is None
        assert state.host is not None
        if config.k3s is K3sMode.NONE:
            assert state.kube.logins.has_token
        else:
            assert state.kube.answering
        if config.connection is Connection.SSH:
            assert not config.once
        elif config.connection is Connection.DIRECT:
            assert config.hostname
        else:
            tailnet = state.tailnet
            assert config.hostname or tailnet.name
            assert tailnet.facts is not None
            assert tailnet.facts.state is DaemonState.RUNNING


@given(setups, moves, jitters)
def test_a_registered_machine_ends_only_because_it_was_asked_to(
    config: Config, sequence: Moves, jitter: float
) -> None:
    life = Life(config, jitter)
    for pause_s, move in sequence:
        before = life.go(pause_s, move)
        if before.registration.times and life.state.displayed is DisplayedState.FAILED:
            assert before.displayed is DisplayedState.FAILED
        if life.state.displayed is DisplayedState.STOPPED:
            assert life.state.shutdown is not None or config.once


@given(setups, moves, jitters)
def test_the_status_page_and_the_next_wake_up_can_be_made_at_any_moment(
    config: Config, sequence: Moves, jitter: float
) -> None:
    life = Life(config, jitter)
    for pause_s, move in sequence:
        life.go(pause_s, move)
        told = status(life.state, life.now_s, POLICY, "http://localhost:1994")
        assert told["state"] in {state.value for state in DisplayedState}
        assert 0.005 <= wake_in_s(life.state, life.now_s) <= 1.0


@given(moves, jitters, st.sampled_from(ShutdownKind), st.floats(0, 30))
def test_whoever_is_asked_to_go_is_gone_within_the_bound(
    sequence: Moves, jitter: float, kind: ShutdownKind, later_s: float
) -> None:
    life = Life(Config("1165a9b6", "gpu", connection=Connection.SSH, addresses=ADDRESSES), jitter)
    life.administers = False  # with a kubeconfig, workers are given their time
    for pause_s, move in sequence:
        life.go(abs(pause_s), move)
    life.go(0.0, ShutdownRequested(kind, "SIGTERM"))
    # Nobody answers anything any more; only time passes.
    life.go(max(POLICY.notice_farewell_s, POLICY.hand_over_s) + later_s, Tick())
    assert life.state.displayed in FINAL


@pytest.mark.parametrize("connection", [Connection.SSH, Connection.TAILSCALE])
def test_the_good_answers_alone_lead_to_ready(connection: Connection) -> None:
    life = Life(Config("1165a9b6", "gpu", connection=connection, addresses=ADDRESSES))
    for _ in range(60):
        life.go(0.05, Well())
    assert life.state.displayed is DisplayedState.READY
    assert life.state.offer.offered
    assert life.state.registration.times == 1
