"""What is concluded from the machine's Kubernetes: its node, the GPUs it advertises, and when to wait for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.core.config import K3sMode
from agent.core.effects import ProbeKube, ReadKubeLogins
from agent.core.events import Answer, KubeLoginsRead, KubeProbed, Probe
from agent.core.host.facts import Gpu, GpuReading, Held, KubeLogins, NodeFacts
from agent.core.kubernetes import health
from agent.core.kubernetes.model import Kube
from agent.core.lifecycle.model import NodeDrain
from agent.core.machine_api import calls
from agent.core.machine_api.capacity import capacity
from agent.core.machine_api.model import Advertisement, Capacity, Registration
from agent.core.machine_api.offer import decide
from agent.core.state import AgentState
from tests.unit.core_cases import AT, LOGINS, NOW_S, placeable, with_config

EIGHT = tuple(Gpu(f"GPU-{n}", "H100") for n in range(8))


def on_node(node: NodeFacts | None, failed: int = 0, **changes: Any) -> AgentState:
    """A machine with eight boards, some failed, and this node."""
    gpus = tuple(replace(gpu, healthy=n >= failed) for n, gpu in enumerate(EIGHT))
    there = Kube(expected=True, looked=True, answering=True, node=node)
    return placeable(gpus=GpuReading(gpus), kube=there, **changes)


def counts(state: AgentState) -> tuple[int, int]:
    has = capacity(state)
    return has.gpu_count, has.free_gpu_count


@pytest.mark.parametrize(
    ("node", "failed", "expected"),
    [
        (NodeFacts(gpus_capacity=8, gpus_allocatable=8), 0, (8, 8)),
        (NodeFacts(gpus_capacity=8, gpus_allocatable=8, gpus_requested=3), 0, (8, 5)),
        # A failed board is left out of what is free, once: before the plugin notices and after.
        (NodeFacts(gpus_capacity=8, gpus_allocatable=8, gpus_requested=3), 1, (8, 4)),
        (NodeFacts(gpus_capacity=8, gpus_allocatable=7, gpus_requested=3), 1, (7, 4)),
        (NodeFacts(gpus_capacity=8, gpus_allocatable=1, gpus_requested=1), 8, (1, 0)),
        # What is advertised counts, not boards: slices of MIG, or fewer than there are.
        (NodeFacts(gpus_capacity=56, gpus_allocatable=56, gpus_requested=6), 0, (56, 50)),
        (NodeFacts(gpus_capacity=2, gpus_allocatable=2), 0, (2, 2)),
        # Workers of an agent before this one hold more than is advertised now.
        (NodeFacts(gpus_capacity=8, gpus_allocatable=2, gpus_requested=4), 0, (4, 0)),
        (None, 1, (7, 7)),
    ],
)
def test_gpus_are_counted_as_the_device_plugin_says(
    node: NodeFacts | None, failed: int, expected: tuple[int, int]
) -> None:
    assert counts(on_node(node, failed)) == expected


def test_gpus_offered_once_are_never_counted_down_by_what_is_advertised() -> None:
    fewer = NodeFacts(gpus_capacity=8, gpus_allocatable=7, gpus_requested=7, worker_count=7)
    assert counts(on_node(fewer, gpu_floor=8)) == (8, 0)


def test_k3s_that_is_left_alone_does_not_count() -> None:
    state = with_config(k3s=K3sMode.NONE)
    there = Kube(expected=True, looked=True, answering=True, node=NodeFacts(gpus_allocatable=9))
    assert counts(replace(state, kube=there)) == (2, 2)


@pytest.mark.parametrize(
    ("node", "floor", "fault"),
    [
        (NodeFacts(gpus_allocatable=8), 8, None),
        (NodeFacts(gpus_allocatable=8, ready=False), 8, "not Ready"),
        (NodeFacts(gpus_allocatable=8, schedulable=False), 8, "cordoned"),
        (NodeFacts(gpus_allocatable=8, pressures=("DiskPressure",)), 8, "DiskPressure"),
        (NodeFacts(gpus_allocatable=7), 8, "advertises 7"),
        (NodeFacts(gpus_allocatable=7), 0, None),
        (NodeFacts(gpus_allocatable=0), 0, "advertises no nvidia.com/gpu"),
    ],
)
def test_what_keeps_work_away_from_a_node_is_named(node: NodeFacts, floor: int, fault: str | None) -> None:
    told = health.node_reason(node, on_node(node, gpu_floor=floor))
    assert told is None if fault is None else told is not None and fault in told


@pytest.mark.parametrize(
    ("others", "floor", "fault"),
    [
        (Held(gpus=1), 0, None),
        (Held(gpus=1), 7, None),
        (Held(gpus=1), 8, "other pods hold 1 of the 8 nvidia.com/gpu, and 8 were offered to the gateway"),
        (Held(gpus=8), 0, "other pods hold 8 of the 8 nvidia.com/gpu:"),
        (Held(4000, 1000), 8, None),
    ],
)
def test_gpus_that_other_pods_hold_are_missed_where_they_were_offered(
    others: Held, floor: int, fault: str | None
) -> None:
    node = NodeFacts(gpus_allocatable=8, others=others)
    told = health.node_reason(node, on_node(node, gpu_floor=floor))
    assert told is None if fault is None else told is not None and fault in told


def withdrawn(since_s: float, node: NodeFacts, *, offered: bool = False) -> AgentState:
    """A machine that has offered eight GPUs and has told the gateway something else since."""
    told = Advertisement("127.70.1.1", Capacity(gpu_count=8), offered=offered)
    registration = Registration(True, True, 2, advertisement=told, at_s=NOW_S - since_s)
    return on_node(node, gpu_floor=8, registration=registration)


ONE_TAKEN = NodeFacts(gpus_capacity=8, gpus_allocatable=8, others=Held(gpus=1), waiting_count=0)


@pytest.mark.parametrize(
    ("node", "since_s", "offered", "floor"),
    [
        (ONE_TAKEN, AT.policy.gpu_settle_s, False, 7),
        (ONE_TAKEN, AT.policy.gpu_settle_s - 1, False, 8),
        (ONE_TAKEN, AT.policy.gpu_settle_s, True, 8),
        # The gateway subtracts unsigned: never below what workers hold or are about to.
        (replace(ONE_TAKEN, worker_count=1), AT.policy.gpu_settle_s, False, 8),
        (replace(ONE_TAKEN, waiting_count=1), AT.policy.gpu_settle_s, False, 8),
        (replace(ONE_TAKEN, waiting_count=None), AT.policy.gpu_settle_s, False, 8),
        # A GPU that failed is to be repaired.
        (replace(ONE_TAKEN, gpus_allocatable=7), AT.policy.gpu_settle_s, False, 8),
    ],
)
def test_a_machine_goes_on_with_the_gpus_that_others_leave_once_it_is_idle(
    node: NodeFacts, since_s: float, offered: bool, floor: int
) -> None:
    probed = KubeProbed(Probe(Answer.ANSWERED), node)
    after = health.on_probed(withdrawn(since_s, node, offered=offered), probed, AT)
    assert after.gpu_floor == floor
    assert counts(after)[0] == floor
    assert (after.kube.node_reason is None) is (floor == 7)


def test_a_cluster_without_a_node_for_this_machine_takes_no_work() -> None:
    """Nothing is offered while the API answers and has no node of ours."""
    probed = KubeProbed(Probe(Answer.ANSWERED), None, no_node="none of the 0 Kubernetes nodes")
    after = health.on_probed(on_node(NodeFacts(gpus_allocatable=8)), probed, AT)
    offer = decide(after, AT)
    assert (offer.offered, offer.by, offer.reason) == (False, "node", "none of the 0 Kubernetes nodes")
    back = health.on_probed(after, KubeProbed(Probe(Answer.ANSWERED), NodeFacts(gpus_allocatable=8)), AT)
    assert decide(back, AT).offered


def test_registering_waits_for_the_device_plugin_and_not_for_ever() -> None:
    nothing_yet = on_node(NodeFacts())
    assert calls.awaited(replace(nothing_yet, born_at_s=NOW_S - AT.policy.gpu_wait_s + 1), AT) is not None
    assert calls.awaited(replace(nothing_yet, born_at_s=NOW_S - AT.policy.gpu_wait_s), AT) is None
    assert calls.awaited(on_node(NodeFacts(gpus_allocatable=8), born_at_s=NOW_S), AT) is None


def test_a_machine_without_gpus_waits_for_no_device_plugin() -> None:
    state = replace(on_node(NodeFacts(), born_at_s=NOW_S), gpus=GpuReading())
    assert calls.awaited(state, AT) is None
    assert health.node_reason(NodeFacts(), state) is None


def test_what_was_known_of_the_node_outlives_a_probe_without_an_answer() -> None:
    node = NodeFacts(gpus_allocatable=8)
    after = health.on_probed(on_node(node), KubeProbed(Probe(Answer.SILENT)), AT)
    assert after.kube.node == node


def test_a_problem_beside_a_good_answer_is_kept_until_it_is_over() -> None:
    probed = KubeProbed(
        Probe(Answer.ANSWERED), NodeFacts(gpus_allocatable=8), 1, "the node could not be read"
    )
    after = health.on_probed(on_node(None), probed, AT)
    assert after.kube.read_error == "the node could not be read"
    assert health.on_probed(after, replace(probed, error=None), AT).kube.read_error is None


@pytest.mark.parametrize(
    ("logins", "is_expected"), [(KubeLogins(has_token=True), True), (KubeLogins(), False)]
)
def test_what_listens_is_a_k3s_to_use_once_there_is_a_token_for_it(
    logins: KubeLogins, is_expected: bool
) -> None:
    after = health.on_probed(placeable(kube=Kube()), KubeProbed(Probe(Answer.DENIED), logins=logins), AT)
    assert after.kube.expected is is_expected
    assert after.kube.logins == logins


def test_a_probe_that_failed_by_itself_says_nothing_of_logins() -> None:
    after = health.on_probed(placeable(), KubeProbed(Probe(Answer.SILENT)), AT)
    assert after.kube.logins == LOGINS


def test_what_was_done_to_the_node_of_another_cluster_does_not_count() -> None:
    before = placeable(node_drain=NodeDrain(cordoned=True, workers_told=True))
    same = health.on_probed(before, KubeProbed(Probe(Answer.ANSWERED), logins=LOGINS), AT)
    assert same.node_drain == before.node_drain
    another = KubeProbed(Probe(Answer.ANSWERED), logins=replace(LOGINS, cluster=2))
    after = health.on_probed(before, another, AT)
    assert (after.node_drain.cordoned, after.node_drain.workers_told) == (None, False)


def test_a_k3s_that_is_left_alone_is_not_asked_and_its_token_is_read_again() -> None:
    state, effects = health.manage(with_config(k3s=K3sMode.NONE), AT)
    assert effects == [ReadKubeLogins()]
    after = health.on_logins_read(state, KubeLoginsRead(LOGINS, 2, "not anew"), AT)
    assert (after.kube.logins, after.kube.token_serial, after.kube.read_error) == (LOGINS, 2, "not anew")
    assert health.manage(after, AT)[1] == []
    later = replace(AT, now_s=NOW_S + AT.policy.kube_look_s)
    assert health.manage(after, later)[1] == [ReadKubeLogins()]
    assert health.manage(with_config(k3s=K3sMode.AUTO), AT)[1] == [ProbeKube(AT.policy.kube_timeout_s)]


def test_registering_waits_until_logins_were_looked_for() -> None:
    state = with_config(k3s=K3sMode.NONE)
    assert calls.awaited(replace(state, kube=Kube()), AT) is not None
    assert calls.awaited(replace(state, kube=Kube(looked=True)), AT) is None
