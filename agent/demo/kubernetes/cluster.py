"""A single-node Kubernetes as plain objects: Jobs get running pods, GPUs are allocated, pods end.

Models k3s's controllers and scheduler as far as the gateway and the agent can observe them. Time is passed in; nothing
is locked.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

GPU = "nvidia.com/gpu"
Object = dict[str, Any]


class ConflictError(Exception):
    """An object of that name already exists."""


class Cluster:
    """The node and what runs on it. Jobs and pods are keyed by (namespace, name)."""

    def __init__(self, node_name: str = "demo-node", gpus: int = 1) -> None:
        self.node_name = node_name
        self.gpus = gpus
        self.ready = True
        self.unschedulable = False
        self.annotations: dict[str, str] = {}
        """Annotations of the node."""
        self.stop_s = 0.0
        """How long a pod's process takes to end once it is terminated, at most its grace period."""
        self.terminations: list[tuple[str, float]] = []
        """(pod, grace in seconds) of every request to terminate a pod, oldest first."""
        self.pressures: frozenset[str] = frozenset()
        """Any of `Memory`, `Disk`, `PID`."""
        self.absent = False
        """The API knows no node, as before the kubelet has registered it."""
        self.taints: list[Object] = []
        self.allocatable: dict[str, str] = {}
        """What the kubelet leaves to pods, where that is not the node's capacity."""
        self.jobs: dict[tuple[str, str], Object] = {}
        self.pods: dict[tuple[str, str], Object] = {}
        self.grants: dict[tuple[str, str, str], Object] = {}
        """Service accounts, Roles and their bindings, keyed by (kind, namespace, name). They are not enforced."""
        self._version = 1

    def node(self) -> Object:
        """Return the Node object, as the API shows it."""
        resources = {"cpu": "8", "memory": "32768Mi", "pods": "110"}
        if self.gpus:
            resources[GPU] = str(self.gpus)
        conditions = [
            _condition(f"{name}Pressure", "True" if name in self.pressures else "False")
            for name in ("Memory", "Disk", "PID")
        ]
        conditions.append(_condition("Ready", "True" if self.ready else "Unknown"))
        return {
            "metadata": {
                "name": self.node_name,
                "labels": {"kubernetes.io/hostname": self.node_name},
                "annotations": dict(self.annotations),
            },
            "spec": {
                **({"unschedulable": True} if self.unschedulable else {}),
                **({"taints": self.taints} if self.taints else {}),
            },
            "status": {
                "allocatable": resources | self.allocatable,
                "capacity": resources,
                "conditions": conditions,
            },
        }

    def add_pod(self, name: str, requests: Mapping[str, str], namespace: str = "kube-system") -> None:
        """Run somebody else's pod on the node."""
        self.pods[namespace, name] = {
            "metadata": {**self._metadata(namespace, 0.0), "name": name},
            "spec": {
                "nodeName": self.node_name,
                "containers": [{"name": name, "resources": {"requests": dict(requests)}}],
            },
            "status": {"phase": "Running", "conditions": [_condition("Ready", "True")]},
        }

    def create_job(self, namespace: str, body: Object, now_s: float) -> Object:
        """Create a Job and its pod. Raises: ConflictError; KeyError for a Job without a name."""
        name = body["metadata"]["name"]
        if (namespace, name) in self.jobs:
            raise ConflictError(name)
        job = copy.deepcopy(body)
        job["metadata"] |= self._metadata(namespace, now_s)
        job["status"] = {"active": 1}
        self.jobs[namespace, name] = job
        self._create_pod(job, now_s)
        self.schedule()
        return job

    def delete_job(self, namespace: str, name: str) -> Object:
        """Remove a Job and its pods. Raises: KeyError."""
        job = self.jobs.pop((namespace, name))
        uid = job["metadata"]["uid"]
        for key in [key for key, pod in self.pods.items() if _owner(pod) == uid]:
            del self.pods[key]
        self.schedule()
        return job

    def end_pod(self, namespace: str, name: str, now_s: float, grace_s: float) -> Object:
        """Terminate a pod; it exists until its process ends or its grace period is over. Raises: KeyError."""
        pod = self.pods[namespace, name]
        self.terminations.append((name, grace_s))
        meta = pod["metadata"]
        meta.setdefault("_terminated_at_s", now_s)
        process_ends_at_s = (
            meta["_terminated_at_s"] + self.stop_s if pod["status"]["phase"] == "Running" else now_s
        )
        meta["_ends_at_s"] = min(
            meta.get("_ends_at_s", process_ends_at_s), process_ends_at_s, now_s + grace_s
        )
        meta["deletionTimestamp"] = timestamp(meta["_ends_at_s"])
        self.expire(now_s)
        return pod

    def delete_pod(self, namespace: str, name: str, now_s: float) -> Object:
        """Remove a pod; its Job creates another one. Raises: KeyError."""
        pod = self.pods.pop((namespace, name))
        for job in self.jobs.values():
            if job["metadata"]["uid"] == _owner(pod) and job["status"].get("active"):
                self._create_pod(job, now_s)
        self.schedule()
        return pod

    def finish_job(self, namespace: str, name: str, now_s: float) -> None:
        """Let a Job's pod succeed; `expire` removes both after the Job's TTL. Raises: KeyError."""
        job = self.jobs[namespace, name]
        job["status"] = {"succeeded": 1, "completionTime": timestamp(now_s), "_finished_at_s": now_s}
        for pod in self.pods.values():
            if _owner(pod) == job["metadata"]["uid"]:
                pod["status"]["phase"] = "Succeeded"
        self.schedule()

    def expire(self, now_s: float) -> None:
        """Remove Jobs whose `ttlSecondsAfterFinished` is over, and terminated pods that have ended."""
        for (namespace, name), pod in list(self.pods.items()):
            if now_s >= pod["metadata"].get("_ends_at_s", float("inf")):
                self.delete_pod(namespace, name, now_s)
        for (namespace, name), job in list(self.jobs.items()):
            finished_at_s = job["status"].get("_finished_at_s")
            ttl_s = job["spec"].get("ttlSecondsAfterFinished")
            if finished_at_s is not None and ttl_s is not None and now_s >= finished_at_s + ttl_s:
                self.delete_job(namespace, name)

    def schedule(self) -> None:
        """Start the pending pods that fit, in order of creation."""
        if self.absent:
            return
        used = sum(_gpus(pod) for pod in self.pods.values() if pod["status"]["phase"] == "Running")
        for pod in self.pods.values():
            if self._is_kept_away(pod):
                continue
            fits = self.ready and not self.unschedulable and used + _gpus(pod) <= self.gpus
            if pod["status"]["phase"] == "Pending" and (fits or not (_gpus(pod) or self.unschedulable)):
                pod["spec"]["nodeName"] = self.node_name
                pod["status"] = {"phase": "Running", "conditions": [_condition("Ready", "True")]}
                used += _gpus(pod)

    def _is_kept_away(self, pod: Object) -> bool:
        """Whether a taint that the pod does not tolerate keeps it from being scheduled."""
        tolerated = {each.get("key") for each in pod["spec"].get("tolerations", [])}
        effects = {taint["effect"] for taint in self.taints if taint["key"] not in tolerated}
        return bool(effects & {"NoSchedule", "NoExecute"})

    def _create_pod(self, job: Object, now_s: float) -> None:
        namespace, job_name = job["metadata"]["namespace"], job["metadata"]["name"]
        name = f"{job_name}-{secrets.token_hex(3)[:5]}"
        template = copy.deepcopy(job["spec"]["template"])
        labels = template.get("metadata", {}).get("labels", {})
        self.pods[namespace, name] = {
            "metadata": {
                **self._metadata(namespace, now_s),
                "name": name,
                "labels": labels | {"job-name": job_name, "batch.kubernetes.io/job-name": job_name},
                "ownerReferences": [{"kind": "Job", "name": job_name, "uid": job["metadata"]["uid"]}],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending", "conditions": [_condition("PodScheduled", "False")]},
        }

    def _metadata(self, namespace: str, now_s: float) -> Object:
        self._version += 1
        return {
            "namespace": namespace,
            "uid": secrets.token_hex(16),
            "resourceVersion": str(self._version),
            "creationTimestamp": timestamp(now_s),
        }


def timestamp(unix_s: float) -> str:
    """Return a time as Kubernetes writes it."""
    return datetime.fromtimestamp(unix_s, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def selected(
    objects: Mapping[tuple[str, str], Object], namespace: str | None, selector: str
) -> Iterator[Object]:
    """Yield the objects in a namespace (None: all) that match an equality-based selector (`a=b,c=d`)."""
    wanted = dict(part.replace("==", "=").split("=", 1) for part in selector.split(",") if "=" in part)
    for (item_namespace, _), item in objects.items():
        labels = item["metadata"].get("labels", {})
        if namespace in {None, item_namespace} and all(
            labels.get(name) == value for name, value in wanted.items()
        ):
            yield item


def _owner(pod: Object) -> str | None:
    return next((str(owner["uid"]) for owner in pod["metadata"].get("ownerReferences", [])), None)


def _gpus(pod: Object) -> int:
    resources = [container.get("resources", {}) for container in pod["spec"]["containers"]]
    return sum(int((each.get("limits") or each.get("requests") or {}).get(GPU, 0)) for each in resources)


def _condition(kind: str, status: str) -> Object:
    return {"type": kind, "status": status, "reason": "Demo"}
