"""Making room on the machine: keep new pods off its node, and end the gateway's workers with a time to finish in.

All are calls as the administrator, over a session of kubernetes_api.Api, and raise what `Session.call` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from agent.adapters.kubernetes_api import ApiError, Session
from agent.core.kube_objects import WORKER_SELECTOR

_GONE = 404
_MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class WorkerPod:
    """One of the gateway's workers on this machine."""

    namespace: str
    name: str
    phase: str

    @property
    def path(self) -> str:
        """Where the API has it."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"


def cordon(session: Session, node_name: str, *, is_cordoned: bool = True) -> None:
    """Let no new pod be scheduled on the node, or let them come again. What runs there is not touched."""
    session.call("PATCH", f"/api/v1/nodes/{node_name}", {"spec": {"unschedulable": is_cordoned}}, _MERGE)


def worker_pods(session: Session) -> tuple[WorkerPod, ...]:
    """The gateway's workers, in every namespace and phase."""
    found = session.get(f"/api/v1/pods?labelSelector={quote('='.join(WORKER_SELECTOR))}")["items"]
    return tuple(
        WorkerPod(pod["metadata"]["namespace"], pod["metadata"]["name"], pod["status"].get("phase", ""))
        for pod in found
    )


def evict(session: Session, pod: WorkerPod, grace_s: float) -> bool:
    """Ask for a pod's end, which a disruption budget may refuse (False). One that is gone is fine."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod.name, "namespace": pod.namespace},
        "deleteOptions": {"gracePeriodSeconds": int(grace_s)},
    }
    try:
        session.call("POST", f"{pod.path}/eviction", body)
    except ApiError as error:
        if error.status == 429:
            return False
        if error.status != _GONE:
            raise
    return True


def delete(session: Session, pod: WorkerPod, grace_s: float) -> None:
    """End a pod, whatever a disruption budget says. One that is gone is fine."""
    body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": int(grace_s)}
    try:
        session.call("DELETE", pod.path, body)
    except ApiError as error:
        if error.status != _GONE:
            raise
