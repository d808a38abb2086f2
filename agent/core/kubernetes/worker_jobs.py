"""The gateway's worker Jobs: whose they are, which are over, and which would bring back a worker that has ended.

The Job controller counts a deleted pod as failed and makes another one after a pause, 10 s at first. In that pause the
Job has no active pod and is not over: only the condition Complete or Failed says that (the gateway's contract).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.core.kubernetes.objects import Object, is_worker

_MACHINE_LABEL = "run.beam.cloud/machine-id"
"""The machine for which the gateway made a Job (its contract)."""
_ENDED = frozenset({"Succeeded", "Failed"})
_OVER = frozenset({"Complete", "Failed"})


@dataclass(frozen=True)
class Machine:
    """This machine in its cluster, as far as that tells whose a Job is."""

    node: str | None
    """The name of its node; None: there is none."""
    is_alone: bool
    """No other machine has a node in the cluster: whatever the gateway has placed there is this machine's."""
    machine_id: str


@dataclass(frozen=True)
class Pod:
    """One of the gateway's worker pods that has not ended."""

    namespace: str
    name: str
    owner: str | None
    """The uid of its Job."""
    is_going: bool
    """It was told to end."""


@dataclass(frozen=True)
class Job:
    """One of the gateway's worker Jobs that is not over."""

    namespace: str
    name: str
    uid: str
    is_going: bool
    """It was deleted, and is kept only until its pods are gone: it makes no other."""
    has_worker: bool
    """A pod of it is on this machine's node and was not told to end."""
    has_lost: bool
    """A pod of it has ended, failed, or was told to end."""
    created: str
    """When it was created, as Kubernetes writes a time."""


@dataclass(frozen=True)
class Work:
    """What the gateway has placed on this machine and is not over."""

    pods: tuple[Pod, ...]
    """On its node; those that were told to end count until they are gone."""
    waiting: tuple[Pod, ...]
    """No node has them yet."""
    jobs: tuple[Job, ...]

    @property
    def to_come(self) -> int:
        """How many of these would run here again, or yet, if the node took work."""
        return len(self.jobs) + len(self.waiting)


def work_on(machine: Machine, jobs: Iterable[Object], pods: Iterable[Object]) -> Work:
    """Return what of these Jobs and pods is this machine's work."""
    all_pods = [pod for pod in pods if is_worker(pod)]
    unended = [pod for pod in all_pods if _phase(pod) not in _ENDED]
    return Work(
        pods=tuple(_pod(pod) for pod in unended if machine.node and _node(pod) == machine.node),
        waiting=tuple(_pod(pod) for pod in unended if _node(pod) is None and _is_made_for(machine, pod)),
        jobs=tuple(
            _job(job, own, machine)
            for job in jobs
            if not is_over(job) and _is_ours(job, own := _pods_of(job, all_pods), machine)
        ),
    )


def left_over(work: Work, *, is_cordoned: bool) -> tuple[tuple[Job, ...], tuple[Pod, ...]]:
    """Return the Jobs, and pods without one, that would bring back a worker that this machine no longer has.

    Whatever runs here goes on: an agent may have been killed, or replaced. A Job whose worker has ended must not start
    another. Neither must one without a worker on a node that an agent has cordoned (`is_cordoned`): what it waits for
    is the end of that cordon. On an open node it may just have been placed.
    """
    jobs = tuple(
        job for job in work.jobs if not job.is_going and not job.has_worker and (is_cordoned or job.has_lost)
    )
    staying = {job.uid for job in work.jobs} - {job.uid for job in jobs}
    return jobs, tuple(pod for pod in work.waiting if not pod.is_going and pod.owner not in staying)


def is_over(job: Object) -> bool:
    """Return whether a Job has ended for good, well or not."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(each["type"] in _OVER and each["status"] == "True" for each in conditions)


def has_pod(job: Object) -> bool:
    """Return whether a Job has a pod that runs, is about to, or is ending, as its controller counts."""
    status = job.get("status") or {}
    return bool(status.get("active") or status.get("terminating"))


def _job(job: Object, pods: list[Object], machine: Machine) -> Job:
    meta, status = job["metadata"], job.get("status") or {}
    live = [pod for pod in pods if _phase(pod) not in _ENDED and not _is_going(pod)]
    return Job(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        is_going=_is_going(job),
        has_worker=any(machine.node and _node(pod) == machine.node for pod in live),
        # A pod that has just ended is listed as uncounted before it is counted.
        has_lost=bool(status.get("failed") or status.get("uncountedTerminatedPods")) or len(live) < len(pods),
        created=str(meta.get("creationTimestamp") or ""),
    )


def _pod(pod: Object) -> Pod:
    return Pod(pod["metadata"]["namespace"], pod["metadata"]["name"], _owner(pod), _is_going(pod))


def _is_ours(job: Object, pods: list[Object], machine: Machine) -> bool:
    """In a cluster of several machines a Job belongs where its pod is; without one, to whom it was made for."""
    nodes = {_node(pod) for pod in pods} - {None}
    if machine.is_alone or not nodes:
        return _is_made_for(machine, job)
    return machine.node in nodes


def _is_made_for(machine: Machine, item: Object) -> bool:
    label = (item["metadata"].get("labels") or {}).get(_MACHINE_LABEL)
    return machine.is_alone or (label is not None and label == machine.machine_id)


def _pods_of(job: Object, pods: list[Object]) -> list[Object]:
    return [pod for pod in pods if _owner(pod) == job["metadata"]["uid"]]


def _owner(pod: Object) -> str | None:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((str(each["uid"]) for each in owners if each.get("kind") == "Job"), None)


def _node(pod: Object) -> str | None:
    name = pod["spec"].get("nodeName")
    return str(name) if name else None


def _phase(pod: Object) -> str | None:
    phase = (pod.get("status") or {}).get("phase")
    return str(phase) if phase else None


def _is_going(item: Object) -> bool:
    return bool(item["metadata"].get("deletionTimestamp"))
