"""The part of `/status` that shows the machine's own Kubernetes."""

from __future__ import annotations

from agent.core.state import AgentState
from agent.core.status_schema import KubernetesStatus, NodeStatus


def kubernetes_status(state: AgentState, now_s: float) -> KubernetesStatus:
    """Return that part; `now_s` is on the clock of the state's times."""
    kube = state.kube
    return {
        "expected": kube.expected,
        "answering": kube.answering,
        "reason": kube.reason or kube.node_reason,
        "token_serial": kube.token_serial,
        "node": _node(state),
        "jobs_without_pod": [
            {"name": job.name, "since_s": round(max(0.0, now_s - job.since_s), 3), "event": job.event}
            for job in kube.podless
        ],
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
