"""What this machine has to give: CPU and memory less the reserve and what other pods request, and GPUs.

What counts is the less of what the machine has and what its Kubernetes node gives to pods.
"""

from __future__ import annotations

from agent.core.config import K3sMode
from agent.core.host.facts import Held, NodeFacts
from agent.core.kubernetes.obstacles import gpus_left, lists_pods
from agent.core.machine_api.model import Capacity
from agent.core.state import AgentState


def capacity(state: AgentState) -> Capacity:
    """Return the capacity now: millicores, MiB, GPUs in all, and free GPUs less the broken ones."""
    if state.host is None:
        return Capacity()
    cpu_millicores, memory_mib = _whole(state)
    others, config = _others(state), state.config
    usable, held, free = _gpus(state)
    return Capacity(
        cpu_millicores=max(0, cpu_millicores - config.reserve_cpu_millicores - others.cpu_millicores),
        memory_mib=max(0, memory_mib - config.reserve_memory_mib - others.memory_mib),
        # Never less than workers hold, also those of an earlier agent: the gateway subtracts without a sign.
        gpu_count=max(usable, held, state.gpu_floor),
        free_gpu_count=free,
    )


def shortage(state: AgentState) -> str | None:
    """Return why no processor or no memory is left to offer, or None."""
    has = capacity(state)
    if has.cpu_millicores and has.memory_mib:
        return None
    cpu_millicores, memory_mib = _whole(state)
    config, others, node = state.config, _others(state), _node(state)
    text = (
        f"nothing is left to offer of {cpu_millicores} millicores and {memory_mib} MiB: the reserve "
        f"(BETA9_RESERVE_CPU, BETA9_RESERVE_MEMORY) takes {config.reserve_cpu_millicores} and "
        f"{config.reserve_memory_mib}"
    )
    if node is None or others == Held():
        return text
    return f"{text}, other pods request {others.cpu_millicores} and {others.memory_mib} ({lists_pods(node)})"


def gpus_awaited(state: AgentState) -> bool:
    """Return whether the driver sees GPUs that the device plugin has not advertised yet."""
    kube, node = state.kube, state.kube.node
    is_seen = any(gpu.healthy for gpu in state.gpus.gpus)
    return kube.expected and node is not None and not node.gpus_allocatable and is_seen


def _node(state: AgentState) -> NodeFacts | None:
    """The node that work is placed on; None if it is not known, or not the agent's to look at."""
    is_used = state.kube.expected and state.config.k3s is not K3sMode.NONE
    return state.kube.node if is_used else None


def _others(state: AgentState) -> Held:
    node = _node(state)
    return node.others if node is not None else Held()


def _whole(state: AgentState) -> tuple[int, int]:
    """Millicores and MiB before anything is subtracted: what the node allots to pods may be less than the machine."""
    host, node = state.host, _node(state)
    if host is None:
        return 0, 0
    if node is None:
        return host.cpu_millicores, host.memory_mib
    return _least(host.cpu_millicores, node.cpu_millicores), _least(host.memory_mib, node.memory_mib)


def _least(machine: int, node: int | None) -> int:
    return machine if node is None else min(machine, node)


def _gpus(state: AgentState) -> tuple[int, int, int]:
    """GPUs that can be used, that workers hold, and that are free: by the device plugin's count, else by NVML's."""
    healthy = sum(gpu.healthy for gpu in state.gpus.gpus)
    failed = len(state.gpus.gpus) - healthy
    node = _node(state)
    if node is None:
        return healthy, 0, healthy
    # A board that failed is still advertised until the plugin notices, and must not be subtracted twice then.
    noticed = max(0, node.gpus_capacity - node.gpus_allocatable)
    free = node.gpus_allocatable - node.gpus_requested - max(0, failed - noticed)
    return gpus_left(node), node.gpus_requested - node.others.gpus, max(0, free)
