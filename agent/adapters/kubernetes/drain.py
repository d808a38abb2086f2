"""Drains the machine's own node: the cordon, the gateway's workers, and the Jobs that would bring them back.

The agent's cordon carries an annotation, so that its next start removes only the agent's own cordon, never a person's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agent.adapters.kubernetes.api import ApiError, Session
from agent.adapters.kubernetes.local import Cluster
from agent.adapters.kubernetes.worker_jobs import read_work
from agent.core.events import JobsCleared, NodeCordoned, WorkersListed
from agent.core.kubernetes.worker_jobs import Job, Pod, left_over
from agent.errors import AgentError, TransientError

ANNOTATION = "beta9-worker/cordoned"
_MERGE = "application/merge-patch+json"
_NOT_FOUND = 404
_UNEXPECTED = "the Jobs or pods have an unexpected shape"


class Drain:
    """What the agent does to the node as its administrator. Every call returns an event and never raises."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def cordon(self, *, is_cordoned: bool, timeout_s: float) -> NodeCordoned:
        """Cordon the node, or remove a cordon that the agent has made."""
        try:
            with self._cluster.api.session(timeout_s) as session:
                self._cordon(session, is_cordoned)
        except AgentError as error:
            return NodeCordoned(is_cordoned, str(error))
        except (LookupError, TypeError, AttributeError) as error:
            return NodeCordoned(is_cordoned, f"the node has an unexpected shape: {error!r}")
        return NodeCordoned(is_cordoned)

    def _cordon(self, session: Session, is_cordoned: bool) -> None:
        path = f"/api/v1/nodes/{self._node_name()}"
        node = session.get(path)
        is_ours = _is_ours(node)
        is_unschedulable = bool((node.get("spec") or {}).get("unschedulable"))
        if is_unschedulable if is_cordoned else not is_ours:
            return
        change = {
            "metadata": {"annotations": {ANNOTATION: "leaving" if is_cordoned else None}},
            "spec": {"unschedulable": is_cordoned},
        }
        session.call("PATCH", path, change, _MERGE)
        self._cluster.read_node_soon()

    def list_workers(self, number: int, timeout_s: float) -> WorkersListed:
        """Count the workers on the node, and what is to come."""
        return self._end_and_list(number, timeout_s, None)

    def end_workers(self, number: int, grace_s: float, timeout_s: float) -> WorkersListed:
        """Give the workers `grace_s` to end, or none, and delete their Jobs. Then count what is left."""
        return self._end_and_list(number, timeout_s, grace_s)

    def clear_jobs(self, timeout_s: float) -> JobsCleared:
        """Delete Jobs that would bring back a worker that this machine no longer has, and name them."""
        try:
            with self._cluster.api.session(timeout_s) as session:
                return self._clear_jobs(session)
        except AgentError as error:
            return JobsCleared(error=str(error))
        except (LookupError, TypeError, AttributeError) as error:
            return JobsCleared(error=f"{_UNEXPECTED}: {error!r}")

    def _clear_jobs(self, session: Session) -> JobsCleared:
        is_cordoned = _is_ours(session.get(f"/api/v1/nodes/{self._node_name()}"))
        work = read_work(session, self._cluster.machine(session))
        jobs, pods = left_over(work, is_cordoned=is_cordoned)
        # The Jobs first: none of them makes another pod meanwhile.
        _delete_jobs(session, jobs)
        _delete_pods(session, pods, 0)
        return JobsCleared((*(job.name for job in jobs), *(pod.name for pod in pods)))

    def _end_and_list(self, number: int, timeout_s: float, grace_s: float | None) -> WorkersListed:
        try:
            with self._cluster.api.session(timeout_s) as session:
                machine = self._cluster.machine(session)
                if grace_s is not None:
                    work = read_work(session, machine)
                    # The pods first: a Job's deletion leaves a pod the time that it was given before.
                    _delete_pods(session, work.pods, int(grace_s))
                    _delete_jobs(session, work.jobs)
                    _delete_pods(session, work.waiting, 0)
                work = read_work(session, machine)
                return WorkersListed(number, len(work.pods), to_come=work.to_come)
        except AgentError as error:
            return WorkersListed(number, None, str(error))
        except (LookupError, TypeError, AttributeError) as error:
            return WorkersListed(number, None, f"{_UNEXPECTED}: {error!r}")

    def _node_name(self) -> str:
        name = self._cluster.node_name
        if name is None:
            raise TransientError("the Kubernetes node of this machine is not known yet")
        return name


def _is_ours(node: Any) -> bool:
    """Return whether the node's cordon, if any, is the agent's."""
    return ANNOTATION in (node["metadata"].get("annotations") or {})


def _delete_pods(session: Session, pods: Iterable[Pod], grace_s: int) -> None:
    for pod in pods:
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        _delete(session, path, {"gracePeriodSeconds": grace_s})


def _delete_jobs(session: Session, jobs: Iterable[Job]) -> None:
    for job in jobs:
        path = f"/apis/batch/v1/namespaces/{job.namespace}/jobs/{job.name}"
        _delete(session, path, {"propagationPolicy": "Background"})


def _delete(session: Session, path: str, options: dict[str, Any]) -> None:
    """Delete an object, regardless of disruption budgets. Succeed if it no longer exists."""
    try:
        session.call("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", **options})
    except ApiError as error:
        if error.status != _NOT_FOUND:
            raise
