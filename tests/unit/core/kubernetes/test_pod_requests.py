"""What the scheduler reserves for a pod."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.kubernetes.pod_requests import Amounts, requested

MIB = 1 << 20


def container(name: str = "main", restart: str | None = None, **resources: dict[str, str]) -> dict[str, Any]:
    policy = {"restartPolicy": restart} if restart else {}
    return {"name": name, "resources": resources, **policy}


def requests(cpu: str, memory: str = "0") -> dict[str, str]:
    return {"cpu": cpu, "memory": memory}


@pytest.mark.parametrize(
    ("spec", "amounts"),
    [
        ({"containers": [{"name": "bare"}]}, (0, 0, 0)),
        (
            {"containers": [container(requests=requests("100m", "70Mi")), container(requests=requests("1"))]},
            (1100, 70 * MIB, 0),
        ),
        # A limit alone is the request, too; with both, the request counts.
        ({"containers": [container(limits={"cpu": "2", "nvidia.com/gpu": "1"})]}, (2000, 0, 1)),
        ({"containers": [container(limits=requests("2"), requests=requests("500m"))]}, (500, 0, 0)),
        # Init containers run one after the other, before the others.
        (
            {
                "initContainers": [
                    container(requests=requests("3", "1Mi")),
                    container(requests=requests("1", "9Mi")),
                ],
                "containers": [container(requests=requests("2", "2Mi"))],
            },
            (3000, 9 * MIB, 0),
        ),
        # A sidecar is an init container that stays, beside those that start after it.
        (
            {
                "initContainers": [
                    container(requests=requests("500m")),
                    container(restart="Always", requests=requests("1")),
                    container(requests=requests("1500m")),
                ],
                "containers": [container(requests=requests("1"))],
            },
            (2500, 0, 0),
        ),
        (
            {
                "initContainers": [container(restart="Always", requests=requests("1"))],
                "containers": [container(requests=requests("1"))],
            },
            (2000, 0, 0),
        ),
        (
            {"containers": [container(requests=requests("1"))], "overhead": requests("250m", "120Mi")},
            (1250, 120 * MIB, 0),
        ),
        # Requests of the whole pod replace those of its containers, resource by resource.
        (
            {
                "containers": [container(requests=requests("1", "5Mi"))],
                "resources": {"requests": {"cpu": "3"}},
            },
            (3000, 5 * MIB, 0),
        ),
    ],
)
def test_a_pod_s_requests_are_counted_as_the_scheduler_counts_them(
    spec: dict[str, Any], amounts: Amounts
) -> None:
    assert requested({"spec": spec}) == amounts


def test_a_container_that_is_being_resized_holds_the_larger_of_both_sizes() -> None:
    spec = {"containers": [container(requests=requests("1"))]}
    larger = {"containerStatuses": [{"name": "main", "allocatedResources": {"cpu": "2"}}]}
    assert requested({"spec": spec, "status": larger}) == (2000, 0, 0)
    smaller = {"containerStatuses": [{"name": "main", "allocatedResources": {"cpu": "500m"}}]}
    assert requested({"spec": spec, "status": smaller}) == (1000, 0, 0)
