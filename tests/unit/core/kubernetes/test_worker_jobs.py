"""The gateway's worker Jobs: whose they are, which are over, and which must not bring a worker back."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.kubernetes.worker_jobs import Machine, has_pod, is_over, left_over, work_on

ALONE = Machine("here", is_alone=True, machine_id="1165a9b6")
ONE_OF_TWO = Machine("here", is_alone=False, machine_id="1165a9b6")
WORKER = {"run.beam.cloud/role": "worker"}
OTHERS = {**WORKER, "run.beam.cloud/machine-id": "bbbbbbbb"}
OURS = {**WORKER, "run.beam.cloud/machine-id": "1165a9b6"}


def job(name: str = "a", labels: dict[str, str] = OURS, going: bool = False, **status: Any) -> dict[str, Any]:
    meta = {"namespace": "default", "name": name, "uid": f"uid-{name}", "labels": labels}
    return {"metadata": meta | _going(going), "status": status}


def pod(
    node: str | None = "here", owner: str = "a", phase: str = "Running", *, going: bool = False
) -> dict[str, Any]:
    meta = {
        "namespace": "default",
        "name": f"{owner}-pod",
        "labels": OURS,
        "ownerReferences": [{"kind": "Job", "uid": f"uid-{owner}"}],
    }
    return {
        "metadata": meta | _going(going),
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase},
    }


def _going(going: bool) -> dict[str, str]:
    return {"deletionTimestamp": "2026-01-01T00:00:00Z"} if going else {}


def condition(kind: str, status: str = "True") -> list[dict[str, str]]:
    return [{"type": "Suspended", "status": "False"}, {"type": kind, "status": status}]


@pytest.mark.parametrize(
    ("status", "over"),
    [
        ({"active": 1}, False),
        ({"failed": 1}, False),
        ({}, False),
        ({"succeeded": 1}, False),
        ({"failed": 1, "conditions": condition("FailureTarget")}, False),
        ({"failed": 7, "conditions": condition("Failed")}, True),
        ({"succeeded": 1, "conditions": condition("Complete")}, True),
        ({"conditions": condition("Complete", "False")}, False),
    ],
)
def test_a_job_is_over_only_when_a_condition_says_so(status: dict[str, Any], over: bool) -> None:
    assert is_over(job(**status)) is over
    assert len(work_on(ALONE, [job(**status)], []).jobs) == (not over)


@pytest.mark.parametrize(
    ("status", "expected"),
    [({"active": 1}, True), ({"failed": 1, "terminating": 1}, True), ({"failed": 1}, False), ({}, False)],
)
def test_whether_a_job_has_a_pod_is_what_its_controller_counts(
    status: dict[str, Any], expected: bool
) -> None:
    assert has_pod(job(**status)) is expected


@pytest.mark.parametrize(
    ("machine", "labels", "pods", "ours"),
    [
        (ALONE, OTHERS, [], True),
        (ALONE, WORKER, [pod(None)], True),
        (ONE_OF_TWO, OURS, [], True),
        (ONE_OF_TWO, OTHERS, [], False),
        (ONE_OF_TWO, WORKER, [], False),
        (ONE_OF_TWO, OURS, [pod("there")], False),
        (ONE_OF_TWO, OTHERS, [pod("here")], True),
        (ONE_OF_TWO, OTHERS, [pod("there", phase="Failed"), pod("here")], True),
        (Machine(None, is_alone=False, machine_id=""), WORKER, [], False),
    ],
)
def test_whose_a_job_is(
    machine: Machine, labels: dict[str, str], pods: list[dict[str, Any]], ours: bool
) -> None:
    """In a cluster of several machines another's work is never touched."""
    assert bool(work_on(machine, [job(labels=labels)], pods).jobs) is ours


def test_pods_are_counted_until_they_are_gone_and_others_never() -> None:
    other = pod() | {"metadata": {"namespace": "kube-system", "name": "coredns", "labels": {}}}
    pods = [pod(), pod(going=True), pod(phase="Succeeded"), pod("there"), pod(None), other]
    work = work_on(ALONE, [job()], pods)
    assert (len(work.pods), len(work.waiting), work.to_come) == (2, 1, 2)


CLOSED, OPEN = True, False


@pytest.mark.parametrize(
    ("status", "pods", "cordoned", "gone"),
    [
        # What runs lives on: an agent that was killed, or replaced, finds its workers again.
        ({"active": 1}, [pod()], OPEN, False),
        ({"active": 1}, [pod()], CLOSED, False),
        ({"active": 1, "failed": 1}, [pod()], OPEN, False),
        ({"active": 1}, [pod(phase="Pending")], OPEN, False),
        # Just placed, on an open node: its first pod is on its way.
        ({}, [], OPEN, False),
        ({"active": 1}, [pod(None, phase="Pending")], OPEN, False),
        # Between two pods, and with the next one waiting for a node.
        ({"failed": 1}, [], OPEN, True),
        ({"failed": 1}, [], CLOSED, True),
        ({"uncountedTerminatedPods": {"failed": ["uid-pod"]}}, [], OPEN, True),
        ({"active": 1, "uncountedTerminatedPods": {}}, [], OPEN, False),
        ({"failed": 1, "active": 1}, [pod(None, phase="Pending")], CLOSED, True),
        ({"failed": 1, "active": 1}, [pod(None, phase="Pending")], OPEN, True),
        # The drain told its pod to end, and did not get as far as the Job.
        ({"failed": 1, "terminating": 1}, [pod(going=True)], CLOSED, True),
        ({"active": 1}, [pod(going=True)], OPEN, True),
        ({"failed": 1}, [pod(phase="Failed")], OPEN, True),
        # It waits for the end of the cordon, and the gateway has given it up meanwhile.
        ({}, [], CLOSED, True),
        ({"active": 1}, [pod(None, phase="Pending")], CLOSED, True),
        # It is over.
        ({"failed": 7, "conditions": condition("Failed")}, [], CLOSED, False),
    ],
)
def test_a_job_is_left_over_when_no_worker_of_it_runs_and_one_has_ended_or_none_may_start(
    status: dict[str, Any], pods: list[dict[str, Any]], cordoned: bool, gone: bool
) -> None:
    jobs, orphans = left_over(work_on(ALONE, [job(**status)], pods), is_cordoned=cordoned)
    assert bool(jobs) is gone
    assert len(orphans) == (gone and any(not each["spec"] for each in pods))


def test_a_job_that_is_being_deleted_makes_no_pod_but_may_leave_one() -> None:
    work = work_on(ALONE, [job(going=True, failed=1)], [pod(None, owner="gone", phase="Pending")])
    jobs, orphans = left_over(work, is_cordoned=True)
    assert (jobs, [each.owner for each in orphans]) == ((), ["uid-gone"])


def test_a_pod_that_is_already_ending_is_not_waited_for() -> None:
    work = work_on(ALONE, [], [pod(None, owner="gone", phase="Pending", going=True)])
    assert left_over(work, is_cordoned=True) == ((), ())
