"""The tailnet's part of the core: when the way to the gateway is open, what is said while it is not, who logs in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agent.core.config import Config, Connection
from agent.core.effects import CallGateway, Effect, JoinTailnet, ProbeApi, ProbeReverse, QueryTailscaled
from agent.core.events import (
    Answer,
    ApiProbed,
    CallEnded,
    Event,
    FactsRead,
    KubeProbed,
    Probe,
    ReverseProbed,
    TailnetJoinTried,
    TailscaledQueried,
    Tick,
)
from agent.core.host.facts import DaemonState, GpuReading, HostFacts, PeerFacts, TailnetFacts
from agent.core.lifecycle.model import DisplayedState
from agent.core.machine_api.model import CallKind
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.status import status
from agent.core.step import step
from agent.core.tunnel.faults import FaultKind
from agent.core.tunnel.model import LinkPhase

POLICY = Policy()
SETUP = Config("1165a9b6", "gpu", connection=Connection.TAILSCALE, joins_tailnet=True)
PEER = PeerFacts("gateway.tail.example", "100.64.0.1", online=True, direct=True)
RUNNING = TailnetFacts(
    DaemonState.RUNNING, name="worker.tail.example", address="100.64.0.2", tailnet="tail.example", peer=PEER
)


def facts(state: DaemonState, **more: Any) -> TailnetFacts:
    return TailnetFacts(state, **more)


class Machine:
    """One worker in a tailnet; what it asks for is answered as `tailnet`, `gateway` and `own` say."""

    def __init__(self, config: Config = SETUP, tailnet: TailnetFacts = RUNNING) -> None:
        self.now_s = 1000.0
        self.worker = AgentState(config, born_at_s=self.now_s, since_s=self.now_s)
        self.tailnet = tailnet
        self.gateway = Probe(Answer.ANSWERED, 0.01)
        self.own = Probe(Answer.ANSWERED, 0.01)
        self.config: bool = True
        self.done: list[Effect] = []
        self.promised: list[str] = []

    def take(self, event: Event) -> tuple[Effect, ...]:
        self.worker, effects = step(self.worker, event, self.now_s, POLICY)
        self.done += effects
        return effects

    def live(self, seconds: float) -> Machine:
        """Let time pass, with every question answered at once."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            pending = list(self.take(Tick()))
            while pending:
                for event in self._answers(pending.pop(0)):
                    pending += self.take(event)
            self.now_s += 0.1
        return self

    def _answers(self, effect: Effect) -> Iterator[Event]:
        if isinstance(effect, QueryTailscaled):
            yield TailscaledQueried(self.tailnet, effect.with_peers)
        elif isinstance(effect, JoinTailnet):
            yield TailnetJoinTried()
        elif isinstance(effect, ProbeApi):
            yield ApiProbed(effect.generation, self.gateway)
        elif isinstance(effect, ProbeReverse):
            yield ReverseProbed(effect.generation, self.own)
        elif isinstance(effect, CallGateway):
            if effect.kind is CallKind.REGISTER:
                self.promised.append(effect.body["hostname"])
            yield CallEnded(effect.call_id, Outcome(OutcomeKind.OK, ttl_s=300.0, gateway_config=self.config))
        elif type(effect).__name__ == "ReadFacts":
            yield FactsRead(HostFacts(8000, 16384), GpuReading())
        elif type(effect).__name__ == "ProbeKube":
            yield KubeProbed(Probe(Answer.ANSWERED, 0.01))

    def count(self, kind: type) -> int:
        return sum(isinstance(effect, kind) for effect in self.done)

    def status(self) -> dict[str, Any]:
        return {**status(self.worker, self.now_s, POLICY, "http://gateway:1994")}


def test_a_machine_in_its_tailnet_becomes_ready_and_registers_its_full_name_once() -> None:
    machine = Machine().live(5)
    assert machine.worker.displayed is DisplayedState.READY
    assert machine.worker.offer.offered
    assert machine.promised == ["worker.tail.example"]
    assert machine.count(JoinTailnet) == 0


def test_a_gateway_that_appends_the_tailnet_s_name_hears_the_short_one() -> None:
    machine = Machine()
    machine.config = False
    machine.live(5)
    assert machine.promised == ["worker.tail.example", "worker"]
    first_keepalive = next(
        place
        for place, effect in enumerate(machine.done)
        if isinstance(effect, CallGateway) and effect.kind is CallKind.KEEPALIVE
    )
    registered = [
        place
        for place, effect in enumerate(machine.done)
        if isinstance(effect, CallGateway) and effect.kind is CallKind.REGISTER
    ]
    assert all(place < first_keepalive for place in registered), "made ready under a name that leads nowhere"


def test_a_host_name_that_is_set_is_told_as_it_is() -> None:
    machine = Machine(replace(SETUP, hostname="elsewhere.example"))
    machine.config = False
    assert machine.live(5).promised == ["elsewhere.example"]


@pytest.mark.parametrize(
    ("seen", "kind", "text"),
    [
        (
            facts(DaemonState.ABSENT, text="no such file"),
            FaultKind.TAILSCALED,
            "does not answer (no such file)",
        ),
        (facts(DaemonState.STOPPED), FaultKind.TAILSCALED, "tailscale is down on this machine"),
        (facts(DaemonState.STARTING), FaultKind.TAILSCALED, "it waits for the control server"),
        (facts(DaemonState.NEEDS_APPROVAL), FaultKind.TAILNET_LOGIN, "must approve this machine"),
        (facts(DaemonState.NEEDS_LOGIN), FaultKind.TAILNET_LOGIN, "not logged in to its tailnet"),
        (facts(DaemonState.KEY_EXPIRED), FaultKind.TAILNET_KEY, "key in the tailnet has expired"),
        (replace(RUNNING, userspace=True), FaultKind.TAILSCALED, "without a network interface"),
    ],
    ids=lambda value: value.value if isinstance(value, FaultKind) else "",
)
def test_without_its_tailnet_a_machine_waits_and_says_why(
    seen: TailnetFacts, kind: FaultKind, text: str
) -> None:
    machine = Machine(tailnet=seen).live(10)
    assert machine.worker.displayed is DisplayedState.BACKOFF
    assert machine.worker.api.fault is not None
    assert machine.worker.api.fault.kind is kind
    told = machine.status()
    assert text in told["tailnet"]["reason"]
    assert text in told["tunnel"]["forward"]["reason"]
    assert text in told["capacity"]["reason"]
    assert not told["tailnet"]["up"]
    assert machine.count(ProbeApi) == 0, "asked for the gateway without a way there"
    machine.tailnet = RUNNING
    assert machine.live(8).worker.displayed is DisplayedState.READY


def test_a_daemon_that_went_away_and_came_back_costs_no_registration() -> None:
    machine = Machine().live(5)
    machine.tailnet = facts(DaemonState.ABSENT, text="refused")
    machine.live(20)
    assert machine.worker.displayed.value == "BACKOFF"
    assert machine.worker.api.phase is LinkPhase.DOWN
    assert "does not answer" in machine.status()["tailnet"]["reason"]
    machine.tailnet = RUNNING
    machine.live(5)
    assert machine.worker.displayed is DisplayedState.READY
    assert machine.worker.offer.offered
    assert machine.worker.registration.times == 1


def test_one_look_that_gets_no_answer_is_not_believed() -> None:
    machine = Machine().live(5)
    machine.take(TailscaledQueried(facts(DaemonState.ABSENT), with_peers=False))
    assert machine.worker.api.phase.value == "up"
    machine.take(TailscaledQueried(facts(DaemonState.ABSENT), with_peers=False))
    assert machine.worker.api.phase.value == "down"


def test_a_login_is_tried_only_with_a_key_and_ever_more_rarely() -> None:
    without = Machine(replace(SETUP, joins_tailnet=False), facts(DaemonState.NEEDS_LOGIN)).live(60)
    assert without.count(JoinTailnet) == 0
    assert "give a key by BETA9_TAILSCALE_AUTH_FILE" in without.status()["tailnet"]["reason"]
    refused = Machine(tailnet=facts(DaemonState.NEEDS_LOGIN)).live(600)
    assert 4 <= refused.count(JoinTailnet) <= 8
    assert "has not accepted the key" in refused.status()["tailnet"]["reason"]


def test_a_key_that_is_not_taken_is_no_daemon_that_starts() -> None:
    """With a node key that has expired, tailscaled is *starting* while the control server refuses the auth key."""
    machine = Machine(tailnet=facts(DaemonState.KEY_EXPIRED)).live(3)
    machine.tailnet = facts(DaemonState.STARTING, text="some words of the control server")
    machine.live(120)
    assert machine.count(JoinTailnet) >= 3
    assert "key in the tailnet has expired (some words" in machine.status()["tailnet"]["reason"]


@pytest.mark.parametrize("state", [DaemonState.STOPPED, DaemonState.STARTING, DaemonState.NEEDS_APPROVAL])
def test_nobody_logs_in_where_that_is_not_what_is_missing(state: DaemonState) -> None:
    assert Machine(tailnet=facts(state)).live(60).count(JoinTailnet) == 0


def test_a_key_that_expires_is_replaced_by_a_login() -> None:
    machine = Machine().live(5)
    machine.tailnet = facts(DaemonState.KEY_EXPIRED, name=RUNNING.name, key_expires_in_s=-1.0)
    machine.live(5)
    assert machine.count(JoinTailnet) == 1
    machine.tailnet = RUNNING
    assert machine.live(5).worker.displayed is DisplayedState.READY
    assert machine.worker.tailnet.joins == 0


def test_nothing_is_offered_while_6443_does_not_answer_at_the_tailnet_address() -> None:
    machine = Machine()
    machine.own = Probe(Answer.NOT_LISTENING, text="nothing listens there")
    machine.live(15)
    assert machine.worker.displayed is DisplayedState.READY
    assert not machine.worker.offer.offered
    assert (
        "does not answer at its own address in the tailnet, 100.64.0.2"
        in machine.status()["capacity"]["reason"]
    )
    machine.own = Probe(Answer.ANSWERED)
    assert machine.live(10).worker.offer.offered


def test_another_s_k3s_at_the_tailnet_address_is_not_ours() -> None:
    machine = Machine()
    machine.own = Probe(Answer.DENIED, text="its certificate is another one")
    reason = machine.live(15).status()["capacity"]["reason"]
    assert "answers, and not as this machine's k3s" in reason


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (None, "no peer of the tailnet has the name"),
        (replace(PEER, online=False), "gateway.tail.example is not connected to the tailnet"),
        (replace(PEER, key_expired=True), "the key of gateway.tail.example in the tailnet has expired"),
    ],
)
def test_a_gateway_that_does_not_answer_is_explained_by_its_place_in_the_tailnet(
    peer: PeerFacts | None, text: str
) -> None:
    machine = Machine(tailnet=replace(RUNNING, peer=peer))
    machine.gateway = Probe(Answer.SILENT, text="no answer within 2.5 s")
    machine.live(5)
    assert machine.worker.api.fault is not None
    assert text in machine.worker.api.fault.message


def test_peers_are_asked_for_each_time_only_while_the_gateway_is_not_reached() -> None:
    machine = Machine().live(5)
    machine.done.clear()
    machine.live(60)
    looks = [effect for effect in machine.done if isinstance(effect, QueryTailscaled)]
    assert len(looks) >= 15
    assert 1 <= sum(look.with_peers for look in looks) <= 3
    assert machine.status()["tailnet"]["peer"]["direct"] is True


def test_the_key_s_end_is_told_ahead() -> None:
    machine = Machine(tailnet=replace(RUNNING, key_expires_in_s=7200.0)).live(5)
    told = machine.status()
    assert 7100 < told["tailnet"]["key_expires_in_s"] <= 7200
    assert any("key in the tailnet expires in 2.0 h" in text for text in told["degraded"])
    assert machine.worker.displayed is DisplayedState.READY


def test_without_a_tailnet_there_is_nothing_to_say_of_it() -> None:
    machine = Machine(replace(SETUP, connection=Connection.DIRECT, hostname="worker.example")).live(5)
    assert machine.count(QueryTailscaled) == 0
    assert machine.status()["tailnet"] is None
    assert machine.worker.displayed is DisplayedState.READY
