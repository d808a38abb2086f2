"""Kubernetes objects: which node is this machine's, and what the pods on it hold."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.host.facts import Held
from agent.core.kubernetes.objects import node_facts, pick_node


def pod(gpus: int, phase: str = "Running", node: str = "here", **changes: Any) -> dict[str, Any]:
    container = {"resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    spec = {"nodeName": node, "containers": [container], **changes}
    return {
        "metadata": {"labels": {"run.beam.cloud/role": "worker"}},
        "spec": spec,
        "status": {"phase": phase},
    }


def test_only_pods_that_hold_something_here_are_counted() -> None:
    started_by_more = [{"resources": {"requests": {"nvidia.com/gpu": "3"}}}, {"resources": {}}]
    pods = [
        pod(1),
        pod(2, phase="Pending"),
        pod(4, phase="Succeeded"),
        pod(4, phase="Failed"),
        pod(4, node="elsewhere"),
        pod(1, initContainers=started_by_more),
    ]
    facts = node_facts({"metadata": {"name": "here"}}, pods)
    assert (facts.gpus_requested, facts.worker_count, facts.container_count) == (6, 3, 3)


def of_others(cpu: str, memory: str, gpus: int = 0, **status: Any) -> dict[str, Any]:
    """A pod that is not the gateway's."""
    requests = {"cpu": cpu, "memory": memory, "nvidia.com/gpu": str(gpus)}
    spec = {"nodeName": "here", "containers": [{"name": "main", "resources": {"requests": requests}}]}
    return {"metadata": {"name": "theirs"}, "spec": spec, "status": {"phase": "Running", **status}}


def node(**spec: Any) -> dict[str, Any]:
    has = {"cpu": "1900m", "memory": "24117248Ki", "pods": "4", "nvidia.com/gpu": "2"}
    return {"metadata": {"name": "here"}, "spec": spec, "status": {"allocatable": has}}


def test_what_the_kubelet_leaves_to_pods_and_what_others_request_is_read() -> None:
    """Field cases 8.1 to 8.3: what counts is allocatable, and what pods that are not the gateway's hold of it."""
    pods = [of_others("1500m", "16Gi", 1), of_others("9", "9Gi", phase="Succeeded"), pod(1)]
    facts = node_facts(node(), pods)
    assert (facts.cpu_millicores, facts.memory_mib, facts.pods_free) == (1900, 23 << 10, 2)
    assert facts.others == Held(1500, 16 << 10, 1)
    assert facts.gpus_requested == 2


def test_a_node_that_has_reported_nothing_yet_is_not_taken_for_an_empty_one() -> None:
    facts = node_facts({"metadata": {"name": "here"}}, [])
    assert (facts.cpu_millicores, facts.memory_mib, facts.pods_free) == (None, None, None)


@pytest.mark.parametrize(
    ("taint", "shown"),
    [
        ({"key": "nvidia.com/gpu", "effect": "NoSchedule"}, "nvidia.com/gpu:NoSchedule"),
        (
            {
                "key": "node.cloudprovider.kubernetes.io/uninitialized",
                "value": "true",
                "effect": "NoSchedule",
            },
            "node.cloudprovider.kubernetes.io/uninitialized=true:NoSchedule",
        ),
        ({"key": "dedicated", "value": "", "effect": "NoExecute"}, "dedicated:NoExecute"),
        ({"key": "nvidia.com/gpu", "effect": "PreferNoSchedule"}, None),
        # The cordon itself is read, and its taint may linger for a moment after it.
        ({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, None),
    ],
)
def test_taints_that_keep_workers_away_are_read(taint: dict[str, str], shown: str | None) -> None:
    """Field case 8.4."""
    assert node_facts(node(taints=[taint]), []).taints == ((shown,) if shown else ())


def test_conditions_that_keep_workers_away_are_read() -> None:
    conditions = [{"type": name, "status": "True"} for name in ("Ready", "NetworkUnavailable", "PIDPressure")]
    conditions.append({"type": "DiskPressure", "status": "False"})
    facts = node_facts({"metadata": {"name": "here"}, "status": {"conditions": conditions}}, [])
    assert facts.ready
    assert facts.pressures == ("NetworkUnavailable", "PIDPressure")


def test_workers_that_wait_for_a_node_are_counted() -> None:
    waiting = pod(1, phase="Pending")
    del waiting["spec"]["nodeName"]
    facts = node_facts(node(), [waiting, pod(1)])
    assert (facts.worker_count, facts.waiting_count, facts.gpus_requested) == (1, 1, 1)


def test_a_node_is_this_machines_when_it_is_the_only_one_or_has_its_name() -> None:
    one = {"metadata": {"name": "one"}}
    two = {"metadata": {"name": "two", "labels": {"kubernetes.io/hostname": "Machine-2"}}}
    assert pick_node([one], "whatever") is one
    assert pick_node([one, two], "ONE") is one
    assert pick_node([one, two], "machine-2") is two
    assert pick_node([one, two], "three") is None
    assert pick_node([], "one") is None


def test_a_node_under_another_name_is_known_by_the_kernel_that_runs_it() -> None:
    def booted(name: str, boot_id: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "status": {"nodeInfo": {"bootID": boot_id}}}

    one, two = booted("one", "boot-1"), booted("two", "boot-2")
    assert pick_node([one, two], "renamed", "boot-2") is two
    assert pick_node([one, two], "one", "boot-2") is one
    assert pick_node([one, two], "renamed", "") is None
    # The cluster's only node is another machine's, perhaps its server: this one has not joined yet.
    assert pick_node([one], "renamed", "boot-2") is None
    assert pick_node([one], "renamed", "") is one
