"""The Job controller of the stand-in: when a Job gets a pod, and what its status says.

As the real one (tests/kubernetes/test_job_controller.py puts both to the same test): a pod that is deleted counts as
failed at once, and its Job makes another after a pause, while the first may still be ending. In between the Job has no
`active` pod and is not over: only the condition Complete (or Failed) says that. A pod that cannot be created is an
event, and is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

BACKOFF_S = 10.0
"""Pause before the next pod after one that failed; it doubles with each (Kubernetes' default)."""
BACKOFF_CAP_S = 600.0
CREATE_AGAIN_S = 1.0
"""Pause after a pod that could not be created; it doubles with each (Kubernetes' default)."""
CREATE_AGAIN_CAP_S = 60.0

Object = dict[str, Any]


@dataclass
class _Next:
    """When a Job gets its next pod."""

    at_s: float
    refused: int = 0
    """How often its creation failed in a row."""


class JobController:
    """Controls Jobs with one pod each. `create(job, now_s)` makes a pod, or returns why it could not be made."""

    def __init__(self, create: Callable[[Object, float], str | None]) -> None:
        self.backoff_s = BACKOFF_S
        self.events: dict[tuple[str, str], Object] = {}
        """What Jobs were refused, keyed by namespace and name of the event."""
        self._create = create
        self._next: dict[str, _Next] = {}

    def lost(self, pod: Object, jobs: Iterable[Object], now_s: float) -> None:
        """Count a pod as failed, because it is being deleted."""
        for job in jobs:
            uid = job["metadata"]["uid"]
            if uid == owner(pod) and not is_over(job):
                failed = job["status"]["failed"] = job["status"].get("failed", 0) + 1
                pause_s = min(BACKOFF_CAP_S, self.backoff_s * 2 ** (failed - 1))
                self._next[uid] = _Next(now_s + pause_s)

    def complete(self, job: Object, now_s: float) -> None:
        """Set the status of a Job whose pod has succeeded."""
        job["status"] |= {
            "succeeded": 1,
            "completionTime": timestamp(now_s),
            "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": timestamp(now_s)}],
            "_finished_at_s": now_s,
        }
        job["status"].pop("active", None)

    def sync(self, job: Object, pods: list[Object], now_s: float) -> None:
        """Create the pod that a Job lacks, if it is due, and bring its status up to date."""
        if is_over(job):
            return
        active = [pod for pod in pods if not is_going(pod)]
        upcoming = self._next.setdefault(job["metadata"]["uid"], _Next(now_s))
        is_created = False
        if not active and now_s >= upcoming.at_s:
            refusal = self._create(job, now_s)
            is_created = refusal is None
            if refusal is not None:
                self._record(job, f"Error creating: {refusal}", now_s)
                upcoming.at_s = now_s + min(CREATE_AGAIN_CAP_S, CREATE_AGAIN_S * 2**upcoming.refused)
                upcoming.refused += 1
        status = job["status"]
        status["terminating"] = len(pods) - len(active)
        status.pop("active", None)
        if active or is_created:
            status["active"] = 1

    def _record(self, job: Object, message: str, now_s: float) -> None:
        meta = job["metadata"]
        name = f"{meta['name']}.{meta['uid'][:16]}"
        event = self.events.setdefault(
            (meta["namespace"], name),
            {
                "metadata": {"name": name, "namespace": meta["namespace"]},
                "involvedObject": {"kind": "Job", **{key: meta[key] for key in ("namespace", "name", "uid")}},
                "type": "Warning",
                "reason": "FailedCreate",
                "firstTimestamp": timestamp(now_s),
                "count": 0,
            },
        )
        event |= {"message": message, "lastTimestamp": timestamp(now_s), "count": event["count"] + 1}


def is_over(job: Object) -> bool:
    """Return whether a Job is complete."""
    return "_finished_at_s" in job["status"]


def is_going(pod: Object) -> bool:
    """Return whether a pod is being terminated."""
    return "deletionTimestamp" in pod["metadata"]


def owner(pod: Object) -> str | None:
    """Return the uid of the pod's Job."""
    return next((str(each["uid"]) for each in pod["metadata"].get("ownerReferences", [])), None)


def timestamp(unix_s: float) -> str:
    """Return a time as Kubernetes writes it."""
    return datetime.fromtimestamp(unix_s, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
