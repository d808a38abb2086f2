"""Random sequences of faults against the core: whatever happened, after the last fault heals all is well again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.config import ReverseMode
from agent.core.events import CallEnded, Event, ShutdownRequested
from agent.core.hairpin.model import HairpinFaultKind
from agent.core.host.facts import KubeLogins
from agent.core.lifecycle.model import DisplayedState, ShutdownKind
from agent.core.machine_api.model import CallKind
from agent.core.state import AgentState
from agent.core.tunnel.model import Purpose
from agent.errors import ExitCode
from tests.unit.simulation import World

Change = Callable[[World], None]


def started(seed: int = 1, reverse: ReverseMode = ReverseMode.K3S) -> World:
    world = World(seed)
    world.config = replace(world.config, reverse=reverse)
    world.state = replace(world.state, config=world.config)
    world.watch = invariants
    world.run_for(5)
    assert world.state.displayed is DisplayedState.READY
    assert world.would_place()
    return world


def invariants(world: World, event: Event, before: AgentState, after: AgentState) -> None:
    """What must hold in every state, whatever happened."""
    call = after.call
    if call is not None and call.kind is CallKind.KEEPALIVE:
        assert after.registration.times > 0, "a keepalive before any registration"
    if before.displayed in {DisplayedState.STOPPED, DisplayedState.FAILED}:
        assert after == before, "something led out of a final state"
    if before.displayed is DisplayedState.DRAINING:
        assert after.displayed in {DisplayedState.DRAINING, DisplayedState.STOPPED, DisplayedState.FAILED}, (
            "back to service from draining"
        )
    if isinstance(event, CallEnded) and before.call is None:
        assert after.lease == before.lease, "a stale answer changed the lease"
    if after.registration.times and after.shutdown is None and not after.config.once:
        assert after.exit_decision is None, f"a registered agent ended: {after.exit_decision}"
    if not after.kube.answering:
        assert not after.offer.offered


def _gateway(kind: str) -> Change:
    return lambda world: setattr(world.faults, "gateway", kind)


def _k3s(kind: str) -> Change:
    return lambda world: setattr(world.faults, "k3s", kind)


def _end_sshd(world: World) -> None:
    world.faults.sshd = True
    world.kill(Purpose.API)
    world.kill(Purpose.REVERSE)


def _wipe(world: World) -> None:
    world.entry = None


def _nothing(_world: World) -> None:
    """What needs no healing."""


FAULTS: dict[str, tuple[Change, Change]] = {
    "link": (World.cut, lambda world: setattr(world.faults, "link", False)),
    "sshd": (_end_sshd, lambda world: setattr(world.faults, "sshd", False)),
    **{f"gateway {kind}": (_gateway(kind), _gateway("")) for kind in ("refuse", "hang", "500", "401")},
    **{f"k3s {kind}": (_k3s(kind), _k3s("")) for kind in ("refuse", "hang")},
    "wiped": (_wipe, _nothing),
    "api killed": (lambda world: world.kill(Purpose.API), _nothing),
    "reverse killed": (lambda world: world.kill(Purpose.REVERSE), _nothing),
    "reverse session stopped": (World.stop_reverse_session, _nothing),
    "relay gone": (
        lambda world: setattr(world.faults, "relay", "gone"),
        lambda world: setattr(world.faults, "relay", ""),
    ),
    "hairpin broken": (
        lambda world: setattr(world.faults, "hairpin", HairpinFaultKind.BROKEN),
        lambda world: setattr(world.faults, "hairpin", None),
    ),
}

# Mostly short, so that faults meet the agent half-way; 400 s is longer than the lease.
durations = st.one_of(st.floats(0.1, 8), st.floats(0.1, 60), st.just(400.0))
sequences = st.lists(
    st.tuples(st.sampled_from(sorted(FAULTS)), durations, st.floats(0, 30)), min_size=1, max_size=5
)


@pytest.mark.timeout(2400)  # a hundred lives of many minutes each; a busy machine is no failure
@given(sequences, st.integers(0, 2**32), st.sampled_from(ReverseMode))
def test_the_machine_is_ready_again_after_the_last_fault_heals(
    faults: list[tuple[str, float, float]], seed: int, reverse: ReverseMode
) -> None:
    world = started(seed, reverse)
    for name, lasts_s, then_s in faults:
        begin, heal = FAULTS[name]
        begin(world)
        world.run_for(lasts_s)
        heal(world)
        world.run_for(then_s)
    world.run_for(150)
    assert world.state.displayed is DisplayedState.READY
    assert world.would_place(), world.state.offer
    assert not world.dial_hangs()


@pytest.mark.parametrize("seconds", [6, 60, 200])
def test_an_outage_shorter_than_the_lease_costs_no_registration(seconds: float) -> None:
    world = started()
    world.cut()
    world.run_for(seconds)
    world.faults.link = False
    world.run_for(15)
    assert world.state.displayed is DisplayedState.READY
    # Offering again after the outage means registering; being forgotten does not happen.
    assert all(
        state is not DisplayedState.REGISTERING
        for state in world.seen[world.seen.index(DisplayedState.READY) :]
    )


def test_an_outage_longer_than_the_lease_costs_exactly_one_registration_as_the_same_machine() -> None:
    world = started()
    world.cut()
    world.run_for(400)
    assert world.entry is None
    before = world.registrations
    world.faults.link = False
    world.run_for(60)
    assert world.would_place()
    assert world.registrations - before == 1


def test_a_token_for_k3s_is_taken_up_within_ten_seconds_whenever_it_comes() -> None:
    for after_s in (0.5, 3, 33, 1000):
        world = World(seed=1, kube_logins=KubeLogins())
        world.watch = invariants
        world.run_for(after_s)
        assert not world.would_place()
        world.kube_logins = KubeLogins(has_token=True, administers=True, cluster=1)
        world.run_for(10)
        assert world.would_place(), after_s
        world.kube_logins = KubeLogins()
        world.run_for(10)
        assert not world.would_place(), after_s


def test_a_k3s_that_hangs_is_cut_off_before_it_can_stop_the_pool() -> None:
    world = started()
    world.faults.k3s = "hang"
    world.run_for(10)
    assert not world.dial_hangs()
    assert not world.would_place()
    assert world.state.displayed is DisplayedState.READY
    world.faults.k3s = ""
    world.run_for(10)
    assert world.would_place()


def test_a_stopped_reverse_session_costs_an_address_and_not_the_lease() -> None:
    world = started()
    was = world.state.address
    world.stop_reverse_session()
    world.run_for(20)
    assert world.state.address != was
    assert world.would_place()


@pytest.mark.parametrize("fault", [None, *sorted(FAULTS)])
@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3, 3.0, 30.0])
def test_a_stop_ends_within_five_seconds_whatever_is_going_on(fault: str | None, after_s: float) -> None:
    world = World(seed=7)
    world.watch = invariants
    if fault is not None:
        FAULTS[fault][0](world)
    world.run_for(after_s)
    if world.finish is not None:
        assert world.finish.exit_code in {ExitCode.REFUSED, ExitCode.UNUSABLE}
        return
    world.feed(ShutdownRequested(ShutdownKind.STOP, "SIGTERM"))
    world.run_for(5)
    assert world.finish is not None
    assert world.finish.exit_code is ExitCode.OK
    assert not world.would_place()


def test_fifty_agents_do_not_come_back_in_step() -> None:
    moments = []
    for seed in range(50):
        world = started(seed)
        FAULTS["sshd"][0](world)
        world.run_for(30)
        world.faults.sshd = False
        world.run_for(10)
        assert world.state.displayed is DisplayedState.READY
        moments.append(round(world.state.api.up_since_s or 0, 2))
    assert len(set(moments)) > 25


def test_the_same_seed_gives_the_same_life() -> None:
    def life(seed: int) -> list[DisplayedState]:
        world = started(seed)
        chance = random.Random(seed)
        for name in chance.choices(sorted(FAULTS), k=4):
            FAULTS[name][0](world)
            world.run_for(20)
            FAULTS[name][1](world)
        return world.seen

    assert life(3) == life(3)
