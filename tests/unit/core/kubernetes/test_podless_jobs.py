"""Worker Jobs without a pod: since when, and when that stands in the way of more work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.config import K3sMode
from agent.core.context import Context
from agent.core.events import Answer, KubeProbed, Probe
from agent.core.host.facts import NodeFacts, PodlessJob
from agent.core.kubernetes import health
from agent.core.kubernetes.podless_jobs import reason
from agent.core.machine_api.offer import decide
from agent.core.state import AgentState
from agent.core.status import status
from tests.unit.core_cases import AT, NOW_S, POLICY, having_offered, with_config

EVENT = 'FailedCreate: Error creating: pods "a-" is forbidden: pod rejected: RuntimeClass "nvidia" not found'


def read(state: AgentState, at_s: float, *jobs: PodlessJob) -> AgentState:
    """Let a probe at that time find these Jobs without a pod."""
    node = NodeFacts(gpus_capacity=2, gpus_allocatable=2, podless=jobs)
    return health.on_probed(state, KubeProbed(Probe(Answer.ANSWERED), node), Context(at_s, POLICY))


def offered(state: AgentState, at_s: float) -> bool:
    return decide(state, Context(at_s, POLICY)).offered


def test_after_a_minute_nothing_more_is_offered_until_the_job_has_a_pod() -> None:
    state = read(having_offered(), NOW_S, PodlessJob("a", 0.5, EVENT))
    state = read(state, NOW_S + 50, PodlessJob("a", 50.5, EVENT))
    assert offered(state, NOW_S + 59.4)
    offer = decide(state, Context(NOW_S + 59.6, POLICY))
    assert (offer.offered, offer.by) == (False, "job")
    assert offer.reason is not None
    assert EVENT in offer.reason
    assert offered(read(state, NOW_S + 70), NOW_S + 70)


@pytest.mark.parametrize(
    ("age_s", "later_s", "is_late"),
    [(3600.0, 0.0, True), (0.0, 59.0, False), (0.0, 60.0, True), (30.0, 29.0, False), (30.0, 30.0, True)],
)
def test_what_a_restarted_agent_finds_is_as_old_as_it_is(age_s: float, later_s: float, is_late: bool) -> None:
    state = read(having_offered(), NOW_S, PodlessJob("a", age_s))
    assert offered(state, NOW_S + later_s) is not is_late


def test_a_wall_clock_that_is_set_makes_no_job_late() -> None:
    state = read(having_offered(), NOW_S, PodlessJob("a", 0.0))
    assert offered(read(state, NOW_S + 5, PodlessJob("a", 3605.0)), NOW_S + 5)


def test_several_jobs_are_one_reason_that_does_not_change_with_time() -> None:
    state = read(having_offered(), NOW_S, PodlessJob("a", 90.0), PodlessJob("b", 70.0), PodlessJob("c", 0.0))
    texts = {reason(state.kube, Context(NOW_S + later_s, POLICY)) for later_s in (0.0, 10.0)}
    (text,) = texts
    assert text is not None
    assert "Job a (and 1 more) has had no pod for over 60 s: no event says why" in text


def test_a_k3s_that_is_left_alone_does_not_count() -> None:
    late = read(having_offered(), NOW_S, PodlessJob("a", 90.0)).kube
    state = replace(with_config(k3s=K3sMode.NONE), kube=late)
    assert decide(state, AT).by != "job"


def test_status_names_every_such_job_and_what_ends_the_waiting() -> None:
    state = read(having_offered(), NOW_S, PodlessJob("a", 90.0, EVENT), PodlessJob("b", 3.0))
    shown = status(state, NOW_S, POLICY, "http://localhost:1994")["kubernetes"]["jobs_without_pod"]
    assert shown == [
        {"name": "a", "since_s": 90.0, "event": EVENT},
        {"name": "b", "since_s": 3.0, "event": None},
    ]
