"""Kubernetes objects: which node is this machine's, and what the pods on it hold."""

from __future__ import annotations

from typing import Any

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


def test_a_node_is_this_machines_when_it_is_the_only_one_or_has_its_name() -> None:
    one = {"metadata": {"name": "one"}}
    two = {"metadata": {"name": "two", "labels": {"kubernetes.io/hostname": "Machine-2"}}}
    assert pick_node([one], "whatever") is one
    assert pick_node([one, two], "ONE") is one
    assert pick_node([one, two], "machine-2") is two
    assert pick_node([one, two], "three") is None
    assert pick_node([], "one") is None
