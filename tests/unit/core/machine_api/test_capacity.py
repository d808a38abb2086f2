"""What the machine has to give: less the reserve, less broken GPUs, never less than workers hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.config import K3sMode
from agent.core.host.facts import Gpu, GpuReading, Held, HostFacts, NodeFacts
from agent.core.machine_api.capacity import capacity, gpus_awaited, shortage
from agent.core.machine_api.model import Capacity
from tests.unit.core_cases import ANSWERING, placeable, with_config


def test_the_reserve_is_never_offered() -> None:
    assert capacity(placeable()) == Capacity(7500, 15360, 2, 2)


TWO_CORES = HostFacts(2000, 24 << 10)


@pytest.mark.parametrize(
    ("node", "cpu_millicores", "memory_mib"),
    [
        # 8.1: a kubelet with reservations
        (NodeFacts(cpu_millicores=1000, memory_mib=4096), 500, 3072),
        # 8.2: 16 GiB of huge pages
        (NodeFacts(cpu_millicores=2000, memory_mib=7616), 1500, 6592),
        # 8.3: somebody else's pod
        (NodeFacts(cpu_millicores=2000, memory_mib=23 << 10, others=Held(1000, 16 << 10)), 500, 6 << 10),
        (NodeFacts(cpu_millicores=2000, memory_mib=23 << 10, others=Held(1500, 16 << 10)), 0, 6 << 10),
        # A container's limits may be tighter than the node.
        (NodeFacts(cpu_millicores=64000, memory_mib=512 << 10), 1500, 23 << 10),
        (NodeFacts(), 1500, 23 << 10),
    ],
)
def test_no_more_is_offered_than_the_node_gives_and_others_leave(
    node: NodeFacts, cpu_millicores: int, memory_mib: int
) -> None:
    """Field cases 8.1 to 8.3."""
    has = capacity(placeable(host=TWO_CORES, kube=replace(ANSWERING, node=node)))
    assert (has.cpu_millicores, has.memory_mib) == (cpu_millicores, memory_mib)


def test_a_k3s_that_is_left_alone_does_not_limit_what_the_machine_has() -> None:
    state = replace(
        with_config(k3s=K3sMode.NONE), kube=replace(ANSWERING, node=NodeFacts(cpu_millicores=1000))
    )
    assert capacity(state).cpu_millicores == 7500


def test_gpus_of_others_are_not_offered_and_what_workers_hold_is_never_undercut() -> None:
    """The kind of field case 8.3: a pod that is not the gateway's holds a GPU."""
    node = NodeFacts(
        gpus_capacity=8, gpus_allocatable=8, gpus_requested=3, others=Held(gpus=2), worker_count=1
    )
    has = capacity(placeable(kube=replace(ANSWERING, node=node)))
    assert (has.gpu_count, has.free_gpu_count) == (6, 5)
    full = replace(node, gpus_requested=8, others=Held(gpus=2))
    assert capacity(placeable(kube=replace(ANSWERING, node=full), gpu_floor=8)).gpu_count == 8


def test_where_nothing_is_left_the_reason_says_who_takes_it() -> None:
    node = NodeFacts(name="box", cpu_millicores=2000, memory_mib=23 << 10, others=Held(1500, 16 << 10))
    text = shortage(placeable(host=TWO_CORES, kube=replace(ANSWERING, node=node)))
    assert text is not None
    assert "BETA9_RESERVE_CPU" in text
    assert "other pods request 1500 and 16384 ('kubectl describe node box' lists them)" in text
    alone = shortage(with_config(reserve_cpu_millicores=9000))
    assert alone is not None
    assert "other pods" not in alone
    assert shortage(placeable()) is None


def test_a_reserve_larger_than_the_machine_leaves_nothing_rather_than_less() -> None:
    has = capacity(with_config(reserve_cpu_millicores=9000, reserve_memory_mib=10**6))
    assert (has.cpu_millicores, has.memory_mib) == (0, 0)


def test_a_broken_gpu_is_not_free_and_not_counted_before_it_was_ever_promised() -> None:
    one_broken = GpuReading((Gpu("GPU-0", "H100"), Gpu("GPU-1", "H100", healthy=False)))
    assert capacity(placeable(gpus=one_broken)) == Capacity(7500, 15360, 1, 1)


def test_gpus_that_were_promised_are_never_taken_back_under_running_workers() -> None:
    # The gateway subtracts GPUs as unsigned numbers: lowered below what workers hold, more work comes.
    one_broken = GpuReading((Gpu("GPU-0", "H100"), Gpu("GPU-1", "H100", healthy=False)))
    has = capacity(placeable(gpus=one_broken, gpu_floor=2))
    assert (has.gpu_count, has.free_gpu_count) == (2, 1)


def test_nothing_is_known_before_the_machine_was_read() -> None:
    assert capacity(placeable(host=None)) == Capacity()


def test_a_board_that_the_plugin_has_noticed_is_not_subtracted_twice() -> None:
    one_broken = GpuReading((Gpu("GPU-0", "H100"), Gpu("GPU-1", "H100", healthy=False)))
    noticed = replace(ANSWERING, node=NodeFacts(gpus_capacity=2, gpus_allocatable=1))
    assert capacity(placeable(gpus=one_broken, kube=noticed)).free_gpu_count == 1
    unnoticed = replace(ANSWERING, node=NodeFacts(gpus_capacity=2, gpus_allocatable=2))
    assert capacity(placeable(gpus=one_broken, kube=unnoticed)).free_gpu_count == 1


def test_gpus_are_awaited_until_the_plugin_advertises_them() -> None:
    assert gpus_awaited(placeable(kube=replace(ANSWERING, node=NodeFacts())))
    assert not gpus_awaited(placeable(kube=replace(ANSWERING, node=NodeFacts(gpus_allocatable=2))))
