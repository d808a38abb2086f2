"""What the machine has to give: less the reserve, less broken GPUs, never less than workers hold."""

from __future__ import annotations

from dataclasses import replace

from agent.core.host.facts import Gpu, GpuReading, NodeFacts
from agent.core.machine_api.capacity import capacity, gpus_awaited
from agent.core.machine_api.model import Capacity
from tests.unit.core_cases import ANSWERING, placeable, with_config


def test_the_reserve_is_never_offered() -> None:
    assert capacity(placeable()) == Capacity(7500, 15360, 2, 2)


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
