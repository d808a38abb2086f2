"""Read Kubernetes API objects: this machine's node, and the pods on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.core.host.facts import Held, NodeFacts
from agent.core.kubernetes.pod_requests import amounts, requested, total
from agent.core.kubernetes.quantities import whole

WORKER_SELECTOR = ("run.beam.cloud/role", "worker")
"""The label of the gateway's own Jobs and pods (its contract)."""
_OVER = frozenset({"Succeeded", "Failed"})
_REPELLENT = frozenset({"NoSchedule", "NoExecute"})
_CORDON_TAINT = "node.kubernetes.io/unschedulable"

Object = Mapping[str, Any]


def pick_node(nodes: Sequence[Object], hostname: str, boot_id: str = "") -> Object | None:
    """Return this machine's own node: by its name, or by the kernel's boot id; else the only one there is.

    A single node that reports another machine's boot id is not this machine's, whoever's it is.
    """
    named = hostname.lower()
    for node in nodes:
        labels = node["metadata"].get("labels") or {}
        if named in {node["metadata"]["name"].lower(), labels.get("kubernetes.io/hostname", "").lower()}:
            return node
    for node in nodes:
        if boot_id and _boot_id(node) == boot_id:
            return node
    is_another = len(nodes) == 1 and boot_id and _boot_id(nodes[0])
    return nodes[0] if len(nodes) == 1 and not is_another else None


def node_facts(node: Object, pods: Iterable[Object]) -> NodeFacts:
    """Return the facts of one node. `pods` may hold other nodes' pods, pods that have ended, and pods that wait."""
    status = node.get("status") or {}
    name = str(node["metadata"]["name"])
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    going = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in _OVER]
    on_node = [pod for pod in going if pod["spec"].get("nodeName") == name]
    waiting = [pod for pod in going if not pod["spec"].get("nodeName") and is_worker(pod)]
    workers = [pod for pod in on_node if is_worker(pod)]
    others = total(requested(pod) for pod in on_node if not is_worker(pod))
    has = status.get("allocatable") or {}
    cpu_millicores, memory_bytes, gpus = amounts(has)
    return NodeFacts(
        name=name,
        ready=conditions.get("Ready") == "True",
        schedulable=not (node.get("spec") or {}).get("unschedulable", False),
        pressures=tuple(sorted(each for each in conditions if _keeps_away(each, conditions[each]))),
        taints=_taints(node),
        cpu_millicores=cpu_millicores if "cpu" in has else None,
        memory_mib=memory_bytes >> 20 if "memory" in has else None,
        pods_free=max(0, whole(has["pods"]) - len(on_node)) if "pods" in has else None,
        gpus_capacity=amounts(status.get("capacity") or {})[2],
        gpus_allocatable=gpus,
        gpus_requested=total(map(requested, on_node))[2],
        others=Held(others[0], -(-others[1] >> 20), others[2]),
        worker_count=len(workers),
        waiting_count=len(waiting),
        container_count=sum(len(pod["spec"]["containers"]) for pod in workers),
    )


def is_worker(pod: Object) -> bool:
    """Return whether a pod is one of the gateway's workers."""
    label, value = WORKER_SELECTOR
    return bool((pod["metadata"].get("labels") or {}).get(label) == value)


def _boot_id(node: Object) -> str:
    return str(((node.get("status") or {}).get("nodeInfo") or {}).get("bootID", ""))


def _keeps_away(condition: str, status: str) -> bool:
    return status == "True" and (condition.endswith("Pressure") or condition == "NetworkUnavailable")


def _taints(node: Object) -> tuple[str, ...]:
    """Return the taints that keep the gateway's workers away: they have no tolerations (the gateway's contract)."""
    return tuple(
        f"{taint['key']}{'=' if taint.get('value') else ''}{taint.get('value') or ''}:{taint['effect']}"
        for taint in (node.get("spec") or {}).get("taints") or ()
        # The cordon's own taint follows `unschedulable`, which is read itself.
        if taint.get("effect") in _REPELLENT and taint.get("key") != _CORDON_TAINT
    )
