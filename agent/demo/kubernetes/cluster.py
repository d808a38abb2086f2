"""A single-node Kubernetes as plain objects: Jobs get running pods, GPUs are allocated, pods end.

Models k3s's controllers and scheduler as far as the gateway and the agent can observe them (the Jobs' own controller:
job_controller.py). Time is passed in; nothing is locked.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from agent.demo.kubernetes.job_controller import JobController, is_going, is_over, owner, timestamp

GPU = "nvidia.com/gpu"
POD_GRACE_S = 30.0
"""Default of terminationGracePeriodSeconds."""
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
        self.runtime_classes = {"nvidia"}
        """A pod that names another one is not created."""
        self.controller = JobController(self._create_pod)
        self._version = 1

    @property
    def backoff_s(self) -> float:
        """Pause before the pod that follows a lost one."""
        return self.controller.backoff_s

    @backoff_s.setter
    def backoff_s(self, pause_s: float) -> None:
        self.controller.backoff_s = pause_s

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
        job["status"] = {"startTime": timestamp(now_s)}
        self.jobs[namespace, name] = job
        self.advance(now_s)
        return job

    def delete_job(self, namespace: str, name: str, now_s: float) -> Object:
        """Remove a Job; its pods follow as the garbage collector ends them. Raises: KeyError."""
        job = self.jobs.pop((namespace, name))
        for pod in self._pods_of(job):
            if not is_going(pod):  # the time that a pod was given stays as it is
                self._terminate(pod, now_s, POD_GRACE_S)
        self._remove_ended(now_s)
        self.schedule()
        return job

    def end_pod(self, namespace: str, name: str, now_s: float, grace_s: float) -> Object:
        """Terminate a pod; it exists until its process ends or its grace period is over. Raises: KeyError."""
        pod = self.pods[namespace, name]
        self._terminate(pod, now_s, grace_s)
        self.advance(now_s)
        return pod

    def _terminate(self, pod: Object, now_s: float, grace_s: float) -> None:
        meta = pod["metadata"]
        self.terminations.append((meta["name"], grace_s))
        if not is_going(pod):
            self.controller.lost(pod, self.jobs.values(), now_s)
            meta["_terminated_at_s"] = now_s
        process_ends_at_s = (
            meta["_terminated_at_s"] + self.stop_s if pod["status"]["phase"] == "Running" else now_s
        )
        meta["_ends_at_s"] = min(
            meta.get("_ends_at_s", process_ends_at_s), process_ends_at_s, now_s + grace_s
        )
        meta["deletionTimestamp"] = timestamp(meta["_ends_at_s"])

    def finish_job(self, namespace: str, name: str, now_s: float) -> None:
        """Let a Job's pod succeed; `advance` removes both after the Job's TTL. Raises: KeyError."""
        job = self.jobs[namespace, name]
        for pod in self._pods_of(job):
            pod["status"]["phase"] = "Succeeded"
        self.controller.complete(job, now_s)
        self.schedule()

    def advance(self, now_s: float) -> None:
        """Let all happen that is due: pods end, Jobs get their next pod, and finished Jobs go after their TTL."""
        self._remove_ended(now_s)
        for (namespace, name), job in list(self.jobs.items()):
            ttl_s = job["spec"].get("ttlSecondsAfterFinished")
            if is_over(job) and ttl_s is not None and now_s >= job["status"]["_finished_at_s"] + ttl_s:
                self.delete_job(namespace, name, now_s)
            else:
                self.controller.sync(job, self._pods_of(job), now_s)
        self.schedule()

    def _remove_ended(self, now_s: float) -> None:
        for key, pod in list(self.pods.items()):
            if now_s >= pod["metadata"].get("_ends_at_s", float("inf")):
                del self.pods[key]

    def schedule(self) -> None:
        """Start the pending pods that fit, in order of creation."""
        if self.absent:
            return
        used = sum(_gpus(pod) for pod in self.pods.values() if pod["status"]["phase"] == "Running")
        for pod in self.pods.values():
            if is_going(pod) or self._is_kept_away(pod):
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

    def _pods_of(self, job: Object) -> list[Object]:
        return [pod for pod in self.pods.values() if owner(pod) == job["metadata"]["uid"]]

    def _create_pod(self, job: Object, now_s: float) -> str | None:
        """Create a Job's pod. Return what the API server objects to, or None."""
        namespace, job_name = job["metadata"]["namespace"], job["metadata"]["name"]
        name = f"{job_name}-{secrets.token_hex(3)[:5]}"
        template = copy.deepcopy(job["spec"]["template"])
        runtime_class = template["spec"].get("runtimeClassName")
        if runtime_class is not None and runtime_class not in self.runtime_classes:
            return f'pods "{job_name}-" is forbidden: pod rejected: RuntimeClass "{runtime_class}" not found'
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
        return None

    def _metadata(self, namespace: str, now_s: float) -> Object:
        self._version += 1
        return {
            "namespace": namespace,
            "uid": secrets.token_hex(16),
            "resourceVersion": str(self._version),
            "creationTimestamp": timestamp(now_s),
        }


def selected(
    objects: Mapping[tuple[str, str], Object], namespace: str | None, labels: str = "", fields: str = ""
) -> Iterator[Object]:
    """Yield the objects in a namespace (None: all) that match equality-based selectors (`a=b,c=d`)."""
    wanted_labels, wanted_fields = _parsed(labels), _parsed(fields)
    for (item_namespace, _), item in objects.items():
        has = item["metadata"].get("labels", {})
        if (
            namespace in {None, item_namespace}
            and all(has.get(name) == value for name, value in wanted_labels.items())
            and all(_field(item, name) == value for name, value in wanted_fields.items())
        ):
            yield item


def _parsed(selector: str) -> dict[str, str]:
    parts = (part.replace("==", "=").partition("=") for part in selector.split(",") if "=" in part)
    return {name: value for name, _, value in parts}


def _field(item: Any, path: str) -> object:
    for name in path.split("."):
        item = item.get(name) or {}
    return item


def _gpus(pod: Object) -> int:
    resources = [container.get("resources", {}) for container in pod["spec"]["containers"]]
    return sum(int((each.get("limits") or each.get("requests") or {}).get(GPU, 0)) for each in resources)


def _condition(kind: str, status: str) -> Object:
    return {"type": kind, "status": status, "reason": "Demo"}
