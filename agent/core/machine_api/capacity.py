"""What this machine has to give: CPU and memory less the reserve, and GPUs as the device plugin or NVML counts them."""

from __future__ import annotations

from agent.core.config import K3sMode
from agent.core.machine_api.model import Capacity
from agent.core.state import AgentState


def capacity(state: AgentState) -> Capacity:
    """Return the capacity now: millicores, MiB, GPUs in all, and free GPUs less the broken ones."""
    if state.host is None:
        return Capacity()
    usable, requested, free = _gpus(state)
    return Capacity(
        cpu_millicores=max(0, state.host.cpu_millicores - state.config.reserve_cpu_millicores),
        memory_mib=max(0, state.host.memory_mib - state.config.reserve_memory_mib),
        # Never less than workers hold, also those of an earlier agent: the gateway subtracts without a sign.
        gpu_count=max(usable, requested, state.gpu_floor),
        free_gpu_count=free,
    )


def gpus_awaited(state: AgentState) -> bool:
    """Return whether the driver sees GPUs that the device plugin has not advertised yet."""
    kube, node = state.kube, state.kube.node
    is_seen = any(gpu.healthy for gpu in state.gpus.gpus)
    return kube.expected and node is not None and not node.gpus_allocatable and is_seen


def _gpus(state: AgentState) -> tuple[int, int, int]:
    """GPUs that can be used, that pods hold, and that are free: by the device plugin's count, else by NVML's."""
    healthy = sum(gpu.healthy for gpu in state.gpus.gpus)
    failed = len(state.gpus.gpus) - healthy
    node = state.kube.node
    if node is None or not state.kube.expected or state.config.k3s is K3sMode.NONE:
        return healthy, 0, healthy
    # A board that failed is still advertised until the plugin notices, and must not be subtracted twice then.
    noticed = max(0, node.gpus_capacity - node.gpus_allocatable)
    free = node.gpus_allocatable - node.gpus_requested - max(0, failed - noticed)
    return node.gpus_allocatable, node.gpus_requested, max(0, free)
