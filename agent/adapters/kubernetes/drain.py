"""Drains the machine's own node: the cordon, the gateway's workers, and the Jobs that would restart them.

The agent's cordon carries an annotation, so that its next start removes only the agent's own cordon, never a person's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from agent.adapters.kubernetes.api import ApiError, Session
from agent.adapters.kubernetes.local import Cluster
from agent.core.events import NodeCordoned, WorkersListed
from agent.core.kubernetes.objects import WORKER_SELECTOR, is_worker
from agent.errors import AgentError, TransientError

ANNOTATION = "beta9-worker/cordoned"
_MERGE = "application/merge-patch+json"
_ENDED_PHASES = frozenset({"Succeeded", "Failed"})
_NOT_FOUND = 404


@dataclass(frozen=True)
class WorkerPod:
    """One of the gateway's workers on this machine."""

    namespace: str
    name: str

    @property
    def path(self) -> str:
        """Its path in the API."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"


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
        is_ours = ANNOTATION in (node["metadata"].get("annotations") or {})
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
        """Count the workers on the node."""
        return self._end_and_list(number, timeout_s, None)

    def end_workers(self, number: int, grace_s: float, timeout_s: float) -> WorkersListed:
        """Give the workers `grace_s` to end; with 0, remove them and their Jobs. Then count those that are left."""
        return self._end_and_list(number, timeout_s, grace_s)

    def _end_and_list(self, number: int, timeout_s: float, grace_s: float | None) -> WorkersListed:
        try:
            with self._cluster.api.session(timeout_s) as session:
                if grace_s is not None:
                    for pod in self._pods(session):
                        _delete(session, pod.path, {"gracePeriodSeconds": int(grace_s)})
                    if grace_s == 0:
                        self._delete_jobs(session)
                return WorkersListed(number, len(self._pods(session)))
        except AgentError as error:
            return WorkersListed(number, None, str(error))
        except (LookupError, TypeError, AttributeError) as error:
            return WorkersListed(number, None, f"the pods have an unexpected shape: {error!r}")

    def _pods(self, session: Session) -> list[WorkerPod]:
        """Return the gateway's workers that are bound to the node and have not ended; terminating ones count."""
        name = self._node_name()
        items = session.get(f"/api/v1/pods?labelSelector={_selector()}")["items"]
        return [
            WorkerPod(pod["metadata"]["namespace"], pod["metadata"]["name"])
            for pod in items
            if is_worker(pod)
            and pod["spec"].get("nodeName") == name
            and pod["status"].get("phase") not in _ENDED_PHASES
        ]

    def _delete_jobs(self, session: Session) -> None:
        """Delete the workers' Jobs, which would start them again: on this node, if it is the cluster's only one."""
        name = self._node_name()
        pods = session.get(f"/api/v1/pods?labelSelector={_selector()}")["items"]
        elsewhere = {
            pod["metadata"]["labels"].get("job-name")
            for pod in pods
            if pod["spec"].get("nodeName") not in {None, name}
        }
        for job in session.get(f"/apis/batch/v1/jobs?labelSelector={_selector()}")["items"]:
            if not (job.get("status") or {}).get("active") or job["metadata"]["name"] in elsewhere:
                continue
            meta: dict[str, Any] = job["metadata"]
            path = f"/apis/batch/v1/namespaces/{meta['namespace']}/jobs/{meta['name']}"
            _delete(session, path, {"propagationPolicy": "Background"})

    def _node_name(self) -> str:
        name = self._cluster.node_name
        if name is None:
            raise TransientError("the Kubernetes node of this machine is not known yet")
        return name


def _delete(session: Session, path: str, options: dict[str, Any]) -> None:
    """Delete an object, regardless of disruption budgets. Succeed if it no longer exists."""
    try:
        session.call("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", **options})
    except ApiError as error:
        if error.status != _NOT_FOUND:
            raise


def _selector() -> str:
    return quote("=".join(WORKER_SELECTOR))
