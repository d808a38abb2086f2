"""Read Kubernetes API objects: this machine's node, and the pods on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.core.host.facts import NodeFacts

GPU = "nvidia.com/gpu"
"""What the gateway's worker asks for (its contract)."""
WORKER_SELECTOR = ("run.beam.cloud/role", "worker")
"""The label of the gateway's own Jobs and pods (its contract)."""
_OVER = frozenset({"Succeeded", "Failed"})

Object = Mapping[str, Any]


def pick_node(nodes: Sequence[Object], hostname: str) -> Object | None:
    """Return this machine's own node: the only one there is, else the one with its name."""
    if len(nodes) == 1:
        return nodes[0]
    named = hostname.lower()
    for node in nodes:
        labels = node["metadata"].get("labels") or {}
        if named in {node["metadata"]["name"].lower(), labels.get("kubernetes.io/hostname", "").lower()}:
            return node
    return None


def node_facts(node: Object, pods: Iterable[Object]) -> NodeFacts:
    """Return the facts of one node. `pods` may hold other nodes' pods, and pods that have ended."""
    status = node.get("status") or {}
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    on_node = [pod for pod in pods if _is_on(pod, node["metadata"]["name"])]
    workers = [pod for pod in on_node if is_worker(pod)]
    return NodeFacts(
        ready=conditions.get("Ready") == "True",
        schedulable=not (node.get("spec") or {}).get("unschedulable", False),
        pressures=tuple(
            sorted(
                name for name, is_so in conditions.items() if name.endswith("Pressure") and is_so == "True"
            )
        ),
        gpus_capacity=_count(status.get("capacity")),
        gpus_allocatable=_count(status.get("allocatable")),
        gpus_requested=sum(map(_requested, on_node)),
        worker_count=len(workers),
        container_count=sum(len(pod["spec"]["containers"]) for pod in workers),
    )


def is_worker(pod: Object) -> bool:
    """Return whether a pod is one of the gateway's workers."""
    label, value = WORKER_SELECTOR
    return bool((pod["metadata"].get("labels") or {}).get(label) == value)


def _is_on(pod: Object, node_name: str) -> bool:
    is_over = (pod.get("status") or {}).get("phase") in _OVER
    return pod["spec"].get("nodeName") == node_name and not is_over


def _requested(pod: Object) -> int:
    """GPUs that the scheduler reserves for a pod: those of all its containers, or of one init container if more."""
    spec = pod["spec"]
    containers = sum(_of_container(each) for each in spec["containers"])
    return max([containers, *(_of_container(each) for each in spec.get("initContainers") or ())])


def _of_container(container: Object) -> int:
    resources = container.get("resources") or {}
    # For a device plugin's resource, request and limit are the same, and a limit alone sets both.
    return _count(resources.get("limits") or resources.get("requests"))


def _count(resources: Mapping[str, Any] | None) -> int:
    return int((resources or {}).get(GPU, 0))
