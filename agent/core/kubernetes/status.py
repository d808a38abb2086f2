"""The part of `/status` that shows the machine's own Kubernetes."""

from __future__ import annotations

from agent.core.state import AgentState
from agent.core.status_schema import KubernetesStatus, NodeStatus


def kubernetes_status(state: AgentState) -> KubernetesStatus:
    """Return that part."""
    kube = state.kube
    return {
        "expected": kube.expected,
        "answering": kube.answering,
        "reason": kube.reason or kube.node_reason,
        "token_serial": kube.token_serial,
        "node": _node(state),
    }


def _node(state: AgentState) -> NodeStatus | None:
    node = state.kube.node
    if node is None:
        return None
    others = node.others
    return {
        "name": node.name,
        "ready": node.ready,
        "schedulable": node.schedulable,
        "pressures": list(node.pressures),
        "taints": list(node.taints),
        "cpu_millicores": node.cpu_millicores,
        "memory_mib": node.memory_mib,
        "pods_free": node.pods_free,
        "others": {
            "cpu_millicores": others.cpu_millicores,
            "memory_mib": others.memory_mib,
            "gpus": others.gpus,
        },
        "gpus_allocatable": node.gpus_allocatable,
        "gpus_requested": node.gpus_requested,
        "worker_count": node.worker_count,
        "container_count": node.container_count,
    }
