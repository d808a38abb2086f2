"""Any sequence of events, for property tests of the core: strategies, and the replies to an agent's requests.

Events are drawn freely (stale generations, answers that nobody asked for, clocks that jump), mixed with replies to what
the core has requested last, so that sequences also get as far as READY and beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from agent.core.config import Config, Connection, K3sMode, ReverseMode
from agent.core.effects import (
    CallGateway,
    CheckHairpin,
    ClearJobs,
    CordonNode,
    Effect,
    EndWorkers,
    JoinTailnet,
    ListWorkers,
    ProbeApi,
    ProbeContest,
    ProbeKube,
    ProbeReverse,
    QueryTailscaled,
    ReadFacts,
    ReadKubeLogins,
    StartLink,
    WriteStop,
)
from agent.core.events import (
    Answer,
    ApiProbed,
    CallEnded,
    ContestProbed,
    Event,
    FactsRead,
    HairpinChecked,
    JobsCleared,
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
from agent.core.hairpin.model import HairpinFault, HairpinFaultKind
from agent.core.host.facts import (
    DaemonState,
    Gpu,
    GpuReading,
    HostFacts,
    KubeLogins,
    NodeFacts,
    PeerFacts,
    PodlessJob,
    TailnetFacts,
)
from agent.core.lifecycle.model import ShutdownKind
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.policy import Policy
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Holder, Purpose

POLICY = Policy()
ADDRESSES = tuple(f"127.70.1.{n}" for n in (1, 2, 3, 4))
HOST = FactsRead(HostFacts(8000, 32000), GpuReading((Gpu("GPU-0", "H100"),)))

# --- Any event -------------------------------------------------------------------------------------------

purposes = st.sampled_from(Purpose)
generations = st.integers(-1, 6)
faults = st.builds(Fault, st.sampled_from(FaultKind), st.text(max_size=5))
probes = st.builds(Probe, st.sampled_from(Answer), st.floats(0, 100), st.text(max_size=5))
NODE = NodeFacts(gpus_capacity=1, gpus_allocatable=1)
LOGINS = KubeLogins(has_token=True, administers=True, cluster=1)
logins = st.builds(KubeLogins, st.booleans(), st.booleans(), st.integers(0, 2))
nodes = st.none() | st.builds(
    NodeFacts,
    ready=st.booleans(),
    schedulable=st.booleans(),
    pressures=st.sampled_from([(), ("DiskPressure",)]),
    gpus_allocatable=st.integers(0, 8),
    worker_count=st.integers(0, 3),
    podless=st.lists(st.builds(PodlessJob, st.sampled_from("ab"), st.floats(0, 100)), max_size=2).map(tuple),
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
shutdowns = st.builds(ShutdownRequested, st.sampled_from(ShutdownKind), st.just("SIGTERM"))
notices = st.builds(
    NoticeReceived,
    st.sampled_from(NoticeKind),
    st.just("taken away"),
    st.none() | st.floats(-100, 5000),
    st.booleans(),
)
hairpins = st.builds(
    HairpinChecked,
    st.booleans(),
    st.none() | st.builds(HairpinFault, st.sampled_from(HairpinFaultKind), st.just("no hairpin")),
    st.none() | st.just("192.168.1.0/24"),
    st.none() | st.just("k3s listens on loopback only"),
    st.booleans(),
)
errors = st.none() | st.just("no answer")
events: st.SearchStrategy[Event] = st.one_of(
    st.just(Tick()),
    facts,
    st.builds(LinkLoggedIn, purposes, generations),
    st.builds(LinkComplained, purposes, generations, faults),
    st.builds(LinkEnded, purposes, generations, faults),
    st.builds(ApiProbed, generations, probes),
    st.builds(ReverseProbed, generations, probes),
    st.builds(ContestProbed, st.integers(0, 3), st.sampled_from(Holder)),
    hairpins,
    st.builds(KubeProbed, probes, nodes, st.integers(0, 3), errors, st.none() | logins),
    st.builds(KubeLoginsRead, logins, st.integers(0, 3), errors),
    st.builds(CallEnded, st.integers(-1, 12), outcomes),
    shutdowns,
    notices,
    st.builds(NodeCordoned, st.booleans(), errors),
    st.builds(WorkersListed, st.integers(-1, 12), st.none() | st.integers(0, 3), errors, st.integers(0, 2)),
    st.builds(JobsCleared, st.sampled_from([(), ("a",)]), errors),
    st.builds(StopWritten, errors),
    st.builds(TailscaledQueried, tailnets, st.booleans()),
    st.builds(TailnetJoinTried, errors),
)


@dataclass(frozen=True)
class GoodReply:
    """The oldest open request gets a good reply."""


@dataclass(frozen=True)
class BadReply:
    """The oldest open request gets this reply."""

    outcome: Outcome
    probe: Probe
    fault: Fault
    tailnet: TailnetFacts


Move = GoodReply | BadReply | Event

# Mostly short, sometimes absurd: a suspended machine, a clock that was set.
pauses = st.one_of(st.just(0.0), st.floats(0, 5), st.floats(0, 400), st.sampled_from([1e9, -1.0, -1e9]))
anything: st.SearchStrategy[Move] = st.one_of(
    st.just(GoodReply()),
    st.just(GoodReply()),
    st.builds(BadReply, outcomes, probes, faults, tailnets),
    events,
)
# Any number of good replies first, so that trouble meets every stage of a life.
moves = st.builds(
    lambda good, rest: [(0.05, GoodReply())] * good + rest,
    st.integers(0, 30),
    st.lists(st.tuples(pauses, anything), max_size=40),
)
Moves = list[tuple[float, Move]]
configs = st.builds(
    Config,
    machine_id=st.just("1165a9b6"),
    pool_name=st.just("gpu"),
    connection=st.sampled_from(Connection),
    k3s=st.sampled_from(K3sMode),
    hostname=st.none() | st.just("worker.example"),
    reverse=st.sampled_from(ReverseMode),
    addresses=st.sampled_from([ADDRESSES, ADDRESSES[:1]]),
    joins_tailnet=st.booleans(),
    data=st.booleans(),
    once=st.booleans(),
    heeds_rebalance=st.booleans(),
)
jitters = st.floats(0, 1, exclude_max=True)


GOOD = BadReply(
    Outcome(OutcomeKind.OK, ttl_s=300.0, gateway_config=True),
    Probe(Answer.ANSWERED, 0.01),
    Fault(FaultKind.LOST, ""),
    TailnetFacts(DaemonState.RUNNING, name="worker.tail.example", address="100.64.0.2"),
)


def answer(effect: Effect, move: GoodReply | BadReply) -> Event:
    """Return what comes of an effect."""
    reply = move if isinstance(move, BadReply) else GOOD
    makers: dict[type, Callable[[Any], Event]] = {
        ReadFacts: lambda _: HOST,
        StartLink: lambda c: (
            LinkLoggedIn(c.purpose, c.generation)
            if reply is GOOD
            else LinkEnded(c.purpose, c.generation, reply.fault)
        ),
        ProbeApi: lambda c: ApiProbed(c.generation, reply.probe),
        ProbeReverse: lambda c: ReverseProbed(c.generation, reply.probe),
        ProbeContest: lambda c: ContestProbed(c.candidate, Holder.NOBODY if reply is GOOD else Holder.TWIN),
        ProbeKube: lambda _: (
            KubeProbed(reply.probe, NODE, logins=LOGINS) if reply is GOOD else KubeProbed(reply.probe)
        ),
        CheckHairpin: lambda c: HairpinChecked(
            c.lets_in, None if reply is GOOD else HairpinFault(HairpinFaultKind.BROKEN, "")
        ),
        ReadKubeLogins: lambda _: (
            KubeLoginsRead(LOGINS, 1) if reply is GOOD else KubeLoginsRead(KubeLogins(), error="not there")
        ),
        QueryTailscaled: lambda c: TailscaledQueried(reply.tailnet, c.with_peers),
        JoinTailnet: lambda _: TailnetJoinTried(None if reply is GOOD else "no answer"),
        CallGateway: lambda c: CallEnded(c.call_id, reply.outcome),
        CordonNode: lambda c: NodeCordoned(c.is_cordoned, None if reply is GOOD else "refused"),
        ClearJobs: lambda _: JobsCleared() if reply is GOOD else JobsCleared(("a",), "refused"),
        ListWorkers: lambda c: WorkersListed(c.number, 0 if reply is GOOD else 2),
        EndWorkers: lambda c: WorkersListed(c.number, 0 if reply is GOOD else 2),
        WriteStop: lambda _: StopWritten(None if reply is GOOD else "disk full"),
    }
    return makers[type(effect)](effect)
