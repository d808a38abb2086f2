"""Leaving, in a simulated world: workers get their time, the deadline only shrinks, and nothing leads back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.events import Event, NoticeKind, NoticeReceived, ShutdownRequested
from agent.core.host.facts import KubeLogins
from agent.core.lifecycle.model import DisplayedState, DrainPhase, ShutdownKind
from agent.core.machine_api.model import CallKind
from agent.core.state import AgentState
from agent.errors import ExitCode
from tests.unit.core.test_simulation import FAULTS
from tests.unit.simulation import World

STEPS = list(DrainPhase)


def only_forward(world: World, _event: Event, before: AgentState, after: AgentState) -> None:
    """What must hold while leaving, whatever happens."""
    if before.displayed is DisplayedState.DRAINING:
        assert after.displayed in {DisplayedState.DRAINING, DisplayedState.STOPPED}
    if before.shutdown is not None:
        assert after.shutdown is not None, "it forgot that it was leaving"
        assert after.shutdown.deadline_at_s <= before.shutdown.deadline_at_s, "the deadline grew"
        assert STEPS.index(after.shutdown.phase) >= STEPS.index(before.shutdown.phase), "a step back"
        assert after.shutdown.mark or not before.shutdown.mark, "the stop marker was forgotten"
        assert not after.offer.offered
    if after.shutdown is not None and after.call is not None and after.call.call_id > before.calls:
        assert after.call.advertisement is None or not after.call.advertisement.offered, (
            "it offers while leaving"
        )
        if after.shutdown.phase is DrainPhase.FAREWELL:
            assert after.call.kind is not CallKind.KEEPALIVE, "a keepalive after the farewell began"


ADMINISTERS = KubeLogins(has_token=True, administers=True, cluster=1)


def started(workers: int = 0, ends_after_s: float = 2.0, logins: KubeLogins = ADMINISTERS) -> World:
    world = World(seed=1, kube_logins=logins)
    world.watch = only_forward
    world.run_for(8)
    assert world.state.displayed is DisplayedState.READY
    world.workers, world.ends_after_s = [math.inf] * workers, ends_after_s
    return world


def notice(world: World, in_s: float | None = 120.0, *, comes_back: bool = False) -> None:
    at_s = None if in_s is None else world.now_s + in_s
    world.feed(NoticeReceived(NoticeKind.TERMINATE, "taken away", at_s, comes_back))


def test_a_notice_while_idle_takes_seconds() -> None:
    world = started()
    notice(world)
    world.run_for(5)
    assert world.finish is not None
    assert world.finish.exit_code is ExitCode.OK
    assert world.entry is not None
    assert (world.entry.status, world.entry.cpu) == ("registered", 0)
    assert world.marked == "taken away"
    assert world.cordoned


def test_a_kubeconfig_that_came_after_the_start_serves_to_empty_the_node() -> None:
    world = started(logins=KubeLogins(has_token=True))
    world.workers = [math.inf]
    world.kube_logins = ADMINISTERS
    world.run_for(10)
    notice(world)
    world.run_for(110)
    assert world.finish is not None
    assert world.cordoned
    assert world.workers == []
    assert world.graces[0] > 90


def test_without_a_kubeconfig_any_more_nobody_is_waited_for() -> None:
    world = started(workers=1, ends_after_s=math.inf)
    world.kube_logins = KubeLogins(has_token=True, cluster=1)
    world.run_for(10)
    notice(world)
    world.run_for(15)
    assert world.finish is not None
    assert world.workers == [math.inf]


def test_workers_get_until_twenty_seconds_before_the_end_and_the_lease_is_kept() -> None:
    world = started(workers=2, ends_after_s=math.inf)
    notice(world)
    world.run_for(90)
    assert world.finish is None
    assert not world.would_place()
    assert world.entry is not None
    assert world.entry.status == "ready"
    assert 99 <= world.graces[0] <= 100
    world.run_for(15)
    assert world.finish is not None
    assert world.workers == []
    assert world.entry.status == "registered"


def test_workers_that_end_at_once_hold_nothing_up() -> None:
    world = started(workers=1, ends_after_s=1.0)
    notice(world)
    world.run_for(8)
    assert world.finish is not None


def test_a_machine_that_is_started_again_gets_no_marker() -> None:
    world = started()
    notice(world, comes_back=True)
    world.run_for(5)
    assert world.finish is not None
    assert world.marked is None


def test_a_signal_writes_no_marker_and_leaves_an_idle_node_alone() -> None:
    world = started()
    world.feed(ShutdownRequested(ShutdownKind.STOP, "SIGTERM"))
    world.run_for(5)
    assert world.finish is not None
    assert world.marked is None
    assert not world.cordoned


def test_leaving_when_idle_waits_for_hours_and_keeps_the_lease() -> None:
    world = started()
    world.workers = [world.now_s + 7200]
    world.feed(ShutdownRequested(ShutdownKind.LEAVE_IDLE, "told to leave when idle"))
    for _ in range(70):
        world.run_for(100)
        assert world.finish is None
        assert world.entry is not None
        assert world.entry.status == "ready"
        assert not world.would_place()
    # Even a gateway that forgot everybody is told again.
    world.entry = None
    world.run_for(100)
    assert world.entry is not None
    world.run_for(200)
    assert world.finish is not None
    assert world.graces == []


def test_a_notice_hurries_whoever_waits() -> None:
    world = started(workers=1, ends_after_s=math.inf)
    world.feed(ShutdownRequested(ShutdownKind.LEAVE_IDLE, "told to leave when idle"))
    world.run_for(600)
    assert world.finish is None
    notice(world, 60)
    world.run_for(60)
    assert world.finish is not None
    assert world.workers == []


def test_a_recommendation_withdraws_the_offer_and_is_lifted_again() -> None:
    world = started(workers=1)
    world.feed(NoticeReceived(NoticeKind.REBALANCE, "risk"))
    world.run_for(5)
    assert not world.would_place()
    assert world.cordoned
    assert world.state.displayed is DisplayedState.READY
    assert world.graces == []
    world.feed(NoticeReceived(NoticeKind.LIFTED, "nothing announced"))
    world.run_for(5)
    assert world.would_place()
    assert not world.cordoned


def test_a_notice_with_k3s_down_ends_before_the_machine_does() -> None:
    world = started(workers=1)
    world.state = replace(world.state, kube=replace(world.state.kube, node=None))
    world.faults.k3s = "hang"
    notice(world, 60)
    world.run_for(60)
    assert world.finish is not None


@pytest.mark.parametrize(
    "kind", [ShutdownKind.STOP, ShutdownKind.LEAVE, ShutdownKind.LEAVE_IDLE, None], ids=str
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_job_between_two_pods_does_not_survive_a_drain(kind: ShutdownKind | None, workers: int) -> None:
    """Field case A1: its Job has no active pod for ten seconds, and was passed over."""
    world = started(workers + 1)
    world.lose_worker()
    if kind is None:
        notice(world)
    else:
        world.feed(ShutdownRequested(kind, "asked"))
    if kind is ShutdownKind.LEAVE_IDLE and workers:
        world.run_for(60)
        assert world.finish is None
        assert world.graces == []
        world.workers = []
    world.run_for(15)
    assert world.finish is not None
    assert (world.workers, world.between_pods) == ([], [])
    world.restart()
    world.run_for(30)
    assert world.would_place()
    assert world.came_back == 0


def test_a_worker_that_ends_when_told_leaves_no_job_to_bring_it_back() -> None:
    """Field case A1: the Job is deleted with the pod, and not only if the pod still runs when its time is up."""
    world = started(workers=2, ends_after_s=3.0)
    world.feed(ShutdownRequested(ShutdownKind.STOP, "SIGTERM"))
    world.run_for(1)
    assert not world.has_jobs
    assert len(world.workers) == 2
    world.run_for(9)
    assert world.finish is not None


def test_whoever_waited_for_hours_does_not_stay_for_a_job_that_cannot_be_removed() -> None:
    world = started(workers=1)
    world.feed(ShutdownRequested(ShutdownKind.LEAVE_IDLE, "told to leave when idle"))
    world.run_for(600)
    world.workers, world.keeps_jobs = [], True
    world.run_for(world.policy.drain_timeout_s + 15)
    assert world.finish is not None


asked = st.sampled_from(
    [ShutdownKind.STOP, ShutdownKind.LEAVE, ShutdownKind.LEAVE_IDLE, ShutdownKind.HAND_OVER]
)
wishes = st.one_of(
    st.builds(ShutdownRequested, asked, st.just("asked")),
    st.builds(
        lambda kind, in_s, back: (kind, in_s, back),
        st.sampled_from(NoticeKind),
        st.none() | st.floats(-10, 200),
        st.booleans(),
    ),
)
Wish = ShutdownRequested | tuple[NoticeKind, float | None, bool]


@settings(max_examples=settings().max_examples // 4)
@given(
    st.lists(st.tuples(wishes, st.floats(0, 60)), min_size=1, max_size=5),
    st.lists(st.tuples(st.sampled_from(sorted(FAULTS)), st.floats(0, 40)), max_size=3),
    st.integers(0, 3),
    st.one_of(st.floats(0, 200), st.just(math.inf)),
)
def test_whoever_asks_and_whatever_breaks_leaving_goes_only_forward_and_ends_in_time(
    wanted: list[tuple[Wish, float]], faults: list[tuple[str, float]], workers: int, ends_after_s: float
) -> None:
    world = started(workers, ends_after_s)
    for name, then_s in faults:
        FAULTS[name][0](world)
        world.run_for(then_s)
    for wish, then_s in wanted:
        if isinstance(wish, ShutdownRequested):
            world.feed(wish)
        else:
            kind, in_s, back = wish
            deadline_at_s = None if in_s is None else world.now_s + in_s
            world.feed(NoticeReceived(kind, "taken away", deadline_at_s, back))
        world.run_for(then_s)
    shutdown = world.state.shutdown
    if shutdown is not None and not math.isinf(shutdown.deadline_at_s):
        world.run_for(max(0.0, shutdown.deadline_at_s - world.now_s) + 1.5)
        assert world.finish is not None, "the deadline passed"
        assert world.finish.exit_code is ExitCode.OK
