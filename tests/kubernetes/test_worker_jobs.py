"""Worker Jobs, on a real API server and the stand-in: what their controller does, and what a drain does with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from agent.adapters.kubernetes.drain import Drain
from agent.core.events import NodeCordoned
from agent.core.host.facts import PodlessJob
from tests.integration.lab import wait_for
from tests.kubernetes.kubelet import Kubelet, is_running
from tests.kubernetes.server import PODS, RealKubernetes
from tests.kubernetes.standin import StandIn
from tests.kubernetes.test_adapter import JOBS, TIMEOUT_S, Kube, Subject, worker_job

CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"


@pytest.fixture
def node(api: Kube) -> Iterator[Kube]:
    """An API whose node runs four pods at once, each with a GPU, and has no RuntimeClass."""
    api.set_node(gpus=4)
    api.ask("DELETE", f"{CLASSES}/nvidia")
    with Kubelet(api) if isinstance(api, RealKubernetes) else nullcontext():
        yield api
    api.ask("DELETE", f"{CLASSES}/nvidia")


def place(api: Kube, name: str, **template: Any) -> None:
    job = worker_job(name)
    job["spec"]["template"]["spec"] |= template
    assert api.ask("POST", JOBS, job)[0] == 201


def run(api: Kube, *names: str) -> None:
    """Place Jobs and wait until they run."""
    for name in names:
        place(api, name)
    wait_for("they run", lambda: running(api) == set(names))


def job_status(api: Kube, name: str) -> dict[str, Any] | None:
    code, found = api.ask("GET", f"{JOBS}/{name}")
    return found["status"] if code == 200 else None


def pods_of(api: Kube, name: str) -> list[dict[str, Any]]:
    pods: list[dict[str, Any]] = api.ask("GET", f"{PODS}?labelSelector=job-name%3D{name}")[1]["items"]
    return pods


def jobs(api: Kube) -> set[str]:
    return {job["metadata"]["name"] for job in api.ask("GET", JOBS)[1]["items"]}


def running(api: Kube) -> set[str]:
    pods = filter(is_running, api.ask("GET", PODS)[1]["items"])
    return {pod["metadata"]["labels"]["job-name"] for pod in pods}


def lose_pod(api: Kube, name: str) -> None:
    """Delete a Job's pod, and wait until the Job has none."""
    (pod,) = pods_of(api, name)
    assert api.ask("DELETE", f"{PODS}/{pod['metadata']['name']}", {"gracePeriodSeconds": 5})[0] == 200
    wait_for("the Job has no pod", lambda: not pods_of(api, name) and not active(api, name))


def active(api: Kube, name: str) -> int | None:
    status = job_status(api, name)
    return status.get("active") if status is not None else None


def test_a_deleted_pod_counts_as_failed_and_the_next_comes_ten_seconds_later(node: Kube) -> None:
    """What the gateway's contract says of the Job controller; the stand-in must not be more lenient."""
    run(node, "a")
    assert active(node, "a") == 1
    lose_pod(node, "a")
    status = job_status(node, "a")
    assert status is not None
    assert (status["failed"], status.get("conditions")) == (1, None)
    wait_for("it has another pod", lambda: running(node) == {"a"})
    assert (active(node, "a"), len(pods_of(node, "a"))) == (1, 1)


def test_a_job_whose_pod_is_refused_has_none_and_an_event_says_why(node: Kube) -> None:
    subject = Subject(node).ready()
    place(node, "a", runtimeClassName="nvidia")
    (found,) = wait_for("an event", lambda: [job for job in subject.node().podless if job.event])
    assert found.name == "a"
    assert found.event == (
        'FailedCreate: Error creating: pods "a-" is forbidden: pod rejected: RuntimeClass "nvidia" not found'
    )
    assert 0 <= found.age_s < 600
    assert active(node, "a") is None
    assert node.ask("POST", CLASSES, runtime_class())[0] == 201
    wait_for("it runs", lambda: running(node) == {"a"})
    wait_for("nothing is missing", lambda: subject.node().podless == ())


def runtime_class() -> dict[str, Any]:
    api = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass"}
    return {**api, "metadata": {"name": "nvidia"}, "handler": "nvidia"}


def test_a_job_that_has_a_pod_or_is_somebody_else_s_lacks_nothing(node: Kube) -> None:
    subject = Subject(node).ready()
    run(node, "a")
    other = worker_job("other")
    other["metadata"]["labels"] = other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    other["spec"]["template"]["spec"]["runtimeClassName"] = "nvidia"
    assert node.ask("POST", JOBS, other)[0] == 201
    lose_pod(node, "a")
    (found,) = wait_for("between two pods", lambda: subject.node().podless)
    assert found == PodlessJob("a", 0.0, found.event)


def test_a_drain_ends_every_job_that_is_not_over_wherever_it_stands(node: Kube) -> None:
    """Field case A1: a Job between two pods was passed over, and its next pod ran at the next start."""
    subject = Subject(node).ready()
    subject.node()
    run(node, "ending", "returning")
    lose_pod(node, "returning")
    place(node, "refused", runtimeClassName="nvidia")
    drain = Drain(subject.cluster)
    listed = drain.list_workers(1, TIMEOUT_S)
    assert (listed.count, listed.to_come) == (1, 3)
    assert drain.end_workers(2, 7, TIMEOUT_S).error is None
    assert jobs(node) == set()
    wait_for("no pod is left", lambda: not node.ask("GET", PODS)[1]["items"])
    last = drain.end_workers(3, 0, TIMEOUT_S)
    assert (last.count, last.to_come, last.error) == (0, 0, None)


def test_a_job_that_is_over_is_left_to_the_gateway(node: Kube) -> None:
    subject = Subject(node).ready()
    subject.node()
    run(node, "done")
    finish(node, "done")
    # SuccessCriteriaMet comes first.
    wait_for("it is over", lambda: "Complete" in conditions(node, "done"))
    ended = Drain(subject.cluster).end_workers(1, 0, TIMEOUT_S)
    assert (ended.count, ended.to_come) == (0, 0)
    assert jobs(node) == {"done"}


def conditions(api: Kube, name: str) -> set[str]:
    return {each["type"] for each in (job_status(api, name) or {}).get("conditions") or ()}


def finish(api: Kube, name: str) -> None:
    if isinstance(api, StandIn):
        api.served.cluster.finish_job("default", name, api.served.clock())
    else:
        (pod,) = pods_of(api, name)
        api.set_phase(pod["metadata"]["name"], "Succeeded")


def test_a_pod_keeps_its_time_when_its_job_is_deleted(api: Kube) -> None:
    """Deleting the Job at once, so that it makes no other pod, must not cost the worker its grace period."""
    subject = Subject(api).ready()
    if isinstance(api, StandIn):
        api.served.cluster.stop_s = 3600.0
    place(api, "a")
    wait_for("it is on the node", lambda: subject.node().worker_count == 1)
    assert Drain(subject.cluster).end_workers(1, 3000, TIMEOUT_S).error is None
    wait_for("the Job is gone", lambda: jobs(api) == set())
    # Twice, so that the garbage collector has had its turn on a real server.
    for _ in range(2):
        assert Drain(subject.cluster).list_workers(2, TIMEOUT_S).count == 1
        (pod,) = api.ask("GET", PODS)[1]["items"]
        assert pod["metadata"].get("deletionGracePeriodSeconds", 3000) == 3000
    assert Drain(subject.cluster).end_workers(3, 0, TIMEOUT_S).error is None
    wait_for("it is gone", lambda: not api.ask("GET", PODS)[1]["items"])


@pytest.mark.parametrize("is_cordoned", [True, False], ids=["cut short", "killed"])
def test_a_start_removes_what_would_come_back_and_nothing_that_runs(node: Kube, is_cordoned: bool) -> None:
    """Field case A1: Jobs of workers that this machine no longer has, with a drain cut short or without one."""
    subject = Subject(node).ready()
    subject.node()
    run(node, "running", "returning")
    lose_pod(node, "returning")
    drain = Drain(subject.cluster)
    if is_cordoned:
        assert drain.cordon(is_cordoned=True, timeout_s=TIMEOUT_S) == NodeCordoned(is_cordoned=True)
    place(node, "placed")
    wait_for("the pod of the last one exists", lambda: pods_of(node, "placed"))
    found = drain.clear_jobs(TIMEOUT_S)
    assert found.error is None
    gone = {name for name in found.found if name in {"running", "returning", "placed"}}
    assert gone == ({"returning", "placed"} if is_cordoned else {"returning"})
    wait_for("it finds no more", lambda: drain.clear_jobs(TIMEOUT_S).found == ())
    left = {"running"} if is_cordoned else {"running", "placed"}
    assert jobs(node) == left
    assert drain.cordon(is_cordoned=False, timeout_s=TIMEOUT_S).error is None
    wait_for("what is left runs", lambda: running(node) == left)
