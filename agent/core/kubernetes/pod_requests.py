"""What a pod requests, counted as the scheduler does (component-helpers, resource.PodRequests)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.core.kubernetes.quantities import whole

GPU = "nvidia.com/gpu"
"""What the gateway's worker asks for (its contract)."""

Amounts = tuple[int, int, int]
"""Millicores, bytes of memory, GPUs."""

NOTHING: Amounts = (0, 0, 0)
_SCALES = (("cpu", 1000), ("memory", 1), (GPU, 1))

Object = Mapping[str, Any]


def requested(pod: Object) -> Amounts:
    """Return what the scheduler reserves for a pod: what its containers request, or its start if that takes more."""
    spec = pod["spec"]
    applied = _applied(pod.get("status") or {})
    running = total(_of_container(each, applied) for each in spec["containers"])
    sidecars, starting = NOTHING, NOTHING
    for each in spec.get("initContainers") or ():
        needs = _of_container(each, applied)
        if each.get("restartPolicy") == "Always":  # a sidecar stays, beside all that come later
            sidecars = total((sidecars, needs))
            starting = _most(starting, sidecars)
        else:
            starting = _most(starting, total((sidecars, needs)))
    needs = _most(total((running, sidecars)), starting)
    return total((_for_the_pod(spec.get("resources") or {}, needs), amounts(spec.get("overhead") or {})))


def amounts(resources: Object) -> Amounts:
    """Return the amounts in a list of resources; one that is missing counts as 0."""
    millicores, memory_bytes, gpus = (whole(resources.get(name, 0), scale) for name, scale in _SCALES)
    return millicores, memory_bytes, gpus


def total(parts: Iterable[Amounts]) -> Amounts:
    """Return the sums."""
    millicores, memory_bytes, gpus = 0, 0, 0
    for each in parts:
        millicores, memory_bytes, gpus = millicores + each[0], memory_bytes + each[1], gpus + each[2]
    return millicores, memory_bytes, gpus


def _of_container(container: Object, applied: Mapping[str, Amounts]) -> Amounts:
    # Where a running container is being resized, the larger of both sizes is reserved.
    wanted = amounts(_requests(container.get("resources") or {}))
    return _most(wanted, applied.get(str(container.get("name")), NOTHING))


def _requests(resources: Object) -> Object:
    # The API server makes a limit alone the request, too.
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


def _applied(status: Object) -> dict[str, Amounts]:
    """What the kubelet has set aside for each container, which may differ from the spec during a resize."""
    listed = [
        *(status.get("containerStatuses") or ()),
        *(status.get("initContainerStatuses") or ()),
    ]
    return {str(each.get("name")): amounts(each.get("allocatedResources") or {}) for each in listed}


def _for_the_pod(resources: Object, by_containers: Amounts) -> Amounts:
    """Requests of the pod as a whole count in place of its containers'."""
    given = _requests(resources)
    millicores, memory_bytes, gpus = (
        whole(given[name], scale) if name in given else counted
        for (name, scale), counted in zip(_SCALES, by_containers, strict=True)
    )
    return millicores, memory_bytes, gpus


def _most(one: Amounts, other: Amounts) -> Amounts:
    return max(one[0], other[0]), max(one[1], other[1]), max(one[2], other[2])
