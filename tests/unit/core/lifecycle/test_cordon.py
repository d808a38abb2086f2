"""The cordon, in a simulated world: what a start clears away before it takes back an earlier agent's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from agent.core.effects import ClearJobs, CordonNode, Effect, ProbeKube
from agent.core.events import JobsCleared, NodeCordoned, NoticeKind, NoticeReceived, Tick
from agent.core.host.facts import KubeLogins, NodeFacts
from agent.core.kubernetes.model import Kube
from agent.core.lifecycle import cordon
from agent.core.lifecycle.model import NodeDrain
from agent.core.state import AgentState
from agent.core.step import step
from tests.unit.core_cases import AT, LOGINS, NOW_S, POLICY, placeable
from tests.unit.simulation import World

NODE = NodeFacts(gpus_capacity=2, gpus_allocatable=2)


def on_node(node: NodeFacts | None = NODE, logins: KubeLogins = LOGINS, **done: Any) -> AgentState:
    kube = Kube(expected=True, looked=True, answering=True, logins=logins, node=node)
    return placeable(kube=kube, node_drain=NodeDrain(**done))


def wanted(state: AgentState) -> list[Effect]:
    return cordon.manage(state, AT)[1]


def restarted(*between_pods: float, workers: int = 0) -> World:
    """A machine whose drain was cut short: cordoned, with Jobs whose pods were deleted; and the next agent."""
    world = World(seed=1, kube_logins=LOGINS)
    world.run_for(8)
    world.cordoned, world.between_pods, world.workers = True, list(between_pods), [math.inf] * workers
    world.restart()
    return world


def test_what_a_drain_left_behind_is_gone_before_the_cordon_is() -> None:
    """Field case A1: at the next start the cordon went, and a dead worker's pod ran and held a GPU."""
    world = restarted(0.0, 0.0)
    world.run_for(8)
    assert not world.cordoned
    assert (world.came_back, world.workers, world.between_pods) == (0, [], [])
    assert world.would_place()


def test_workers_that_run_live_through_a_start() -> None:
    world = restarted(0.0, workers=2)
    world.run_for(30)
    assert (world.came_back, len(world.workers)) == (0, 2)
    assert world.graces == []


def test_while_they_cannot_be_cleared_away_the_cordon_stays() -> None:
    world = restarted(0.0)
    world.faults.k3s = "hang"
    world.run_for(30)
    assert world.cordoned
    world.faults.k3s = ""
    world.run_for(20)
    assert not world.cordoned
    assert world.came_back == 0


def test_the_offer_comes_with_the_end_of_the_own_cordon_and_not_with_the_next_probe() -> None:
    """Field case A4: a start after a drain offered 3.3 s late."""
    world = restarted()
    world.run_for(3)
    assert world.would_place()
    assert world.registrations == 2, "one before the restart, and one after it that offers everything"


def test_a_recommendation_is_no_start_and_clears_nothing() -> None:
    world = World(seed=1, kube_logins=LOGINS)
    world.run_for(8)
    world.feed(NoticeReceived(NoticeKind.REBALANCE, "risk"))
    world.run_for(5)
    world.between_pods = [world.now_s]
    world.feed(NoticeReceived(NoticeKind.LIFTED, "nothing announced"))
    world.run_for(5)
    assert world.came_back == 1, "it was this machine's, and goes on"


@pytest.mark.parametrize(
    ("state", "kinds"),
    [
        (on_node(), [ClearJobs]),
        (on_node(clearing=True), []),
        (on_node(cleared=True), [CordonNode]),
        (on_node(cleared=True, cordoning=True), []),
        (on_node(cleared=True, cordoned=False), []),
        # Field case A5: without a node, or a login, there is nothing to ask for, and nothing to warn of.
        (on_node(None), []),
        (on_node(logins=KubeLogins(has_token=True)), []),
    ],
)
def test_one_thing_after_the_other_and_each_once(state: AgentState, kinds: list[type]) -> None:
    assert [type(effect) for effect in wanted(state)] == kinds


@pytest.mark.parametrize("event", [JobsCleared(("a",)), JobsCleared(error="refused")])
def test_a_look_that_finds_something_or_fails_is_not_the_last(event: JobsCleared) -> None:
    after = cordon.on_cleared(on_node(clearing=True), event, AT)
    assert (after.node_drain.cleared, after.node_drain.clearing) == (False, False)
    assert after.node_drain.clear_at_s == NOW_S + POLICY.workers_interval_s
    assert cordon.on_cleared(after, JobsCleared(), AT).node_drain.cleared


def test_once_the_node_was_changed_it_is_read_again_at_once() -> None:
    state = on_node(cleared=True, cordoning=True)
    state = replace(state, kube=replace(state.kube, probe_at_s=NOW_S + 3))
    assert ProbeKube not in [type(effect) for effect in step(state, Tick(), NOW_S, POLICY)[1]]
    _, effects = step(state, NodeCordoned(is_cordoned=False), NOW_S, POLICY)
    assert ProbeKube in [type(effect) for effect in effects]
