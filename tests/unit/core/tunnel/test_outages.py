"""What the core decides about ssh children over minutes and hours: how often sshd hears of it, and at what cost.

The same faults on real processes, with times shortened, are in tests/integration/faults/.
"""

from __future__ import annotations

import itertools
import statistics

import pytest

from agent.core.lifecycle.model import DisplayedState
from agent.core.policy import Policy
from agent.core.tunnel.faults import FaultKind
from agent.core.tunnel.model import Purpose
from tests.unit.simulation import World

HOUR_S = 3600.0


def started(seed: int = 1) -> World:
    world = World(seed)
    world.run_for(70)
    assert world.state.displayed is DisplayedState.READY
    assert world.would_place()
    return world


def gaps_s(moments: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("killed", [(Purpose.API,), (Purpose.REVERSE,), (Purpose.API, Purpose.REVERSE)])
def test_a_revoked_key_is_tried_at_most_once_a_minute(seed: int, killed: tuple[Purpose, ...]) -> None:
    world = started(seed)
    world.faults.auth = True
    before = len(world.logins)
    for purpose in killed:
        world.kill(purpose)
    world.run_for(100)
    world.kill(Purpose.API)
    world.run_for(HOUR_S)
    moments = [at_s for at_s, _ in world.logins[before:]]
    assert len(moments) > HOUR_S / Policy().denied_max_s / 2
    assert min(gaps_s(moments)) >= Policy().denied_min_s
    world.faults.auth = False
    world.run_for(Policy().denied_max_s + 10)
    assert world.would_place()


@pytest.mark.parametrize("seed", range(10))
def test_an_outage_of_a_minute_costs_no_registration_and_is_over_soon_after_the_heal(seed: int) -> None:
    world = started(seed)
    before = world.registrations
    world.cut()
    world.run_for(60)
    world.faults.link = False
    world.run_for(10)
    assert world.state.reverse.up_since_s is not None
    assert world.state.api.up_since_s is not None
    assert world.would_place()
    assert world.registrations == before


def test_half_of_all_outages_of_a_minute_are_over_within_four_seconds() -> None:
    took_s = []
    for seed in range(60):
        world = started(seed)
        world.cut()
        world.run_for(60)
        world.faults.link = False
        healed_s = world.now_s
        world.run_for(15)
        took_s.append(
            max(link.up_since_s or 1e9 for link in (world.state.api, world.state.reverse)) - healed_s
        )
    assert max(took_s) <= 10
    assert statistics.median(took_s) <= 4


@pytest.mark.parametrize("seed", range(10))
def test_an_outage_longer_than_the_lease_costs_one_registration_even_if_the_address_changed(
    seed: int,
) -> None:
    world = started(seed)
    before = world.registrations
    world.stop_reverse_session()
    world.run_for(1)
    world.cut()
    world.run_for(400)
    world.faults.link = False
    world.run_for(40)
    assert world.would_place()
    assert world.registrations == before + 1


def test_a_target_that_the_key_may_not_open_costs_a_login_a_minute_and_heals() -> None:
    world = started(3)
    world.faults.permit_open = True
    world.kill(Purpose.API)
    before = len(world.logins)
    world.run_for(HOUR_S)
    moments = [at_s for at_s, purpose in world.logins[before:] if purpose is Purpose.API]
    assert len(moments) > 10
    assert min(gaps_s(moments)) >= Policy().denied_min_s
    assert world.state.api.fault is not None
    assert world.state.api.fault.kind is FaultKind.PERMIT_OPEN
    world.faults.permit_open = False
    world.run_for(120)
    assert world.would_place()


def test_fifty_agents_are_back_within_a_minute_of_a_restart_and_not_in_step() -> None:
    logins: list[float] = []
    for seed in range(50):
        world = started(seed)
        world.faults.sshd = True
        world.kill(Purpose.API)
        world.kill(Purpose.REVERSE)
        world.faults.gateway = "refuse"
        world.run_for(20)
        world.faults.sshd = False
        world.faults.gateway = ""
        healed_s, before = world.now_s, len(world.logins)
        world.run_for(60)
        assert world.would_place()
        back_s = max(link.up_since_s or 1e9 for link in (world.state.api, world.state.reverse))
        assert back_s - healed_s <= 60
        logins += [at_s - healed_s for at_s, _ in world.logins[before:]]
    busiest = max(sum(start <= at_s < start + 1 for at_s in logins) for start in range(10))
    assert busiest <= len(logins) / 2
