"""Reads the gateway's worker Jobs and pods, and why a Job has no pod, as the administrator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from urllib.parse import quote

from agent.adapters.kubernetes.api import Session, SilentError
from agent.core.host.facts import PodlessJob
from agent.core.kubernetes.objects import WORKER_SELECTOR
from agent.core.kubernetes.worker_jobs import Job, Machine, Work, has_pod, is_over, work_on
from agent.errors import AgentError

_WORKERS = "labelSelector=" + quote("=".join(WORKER_SELECTOR))
_OF_JOBS = "fieldSelector=" + quote("involvedObject.kind=Job")
_TEXT_LIMIT = 300
"""Characters of an event's message that are shown."""


def read_work(session: Session, machine: Machine) -> Work:
    """Return what the gateway has placed on this machine. Raises: as `Session.get`, and for an unexpected shape."""
    pods = _pods(session)  # first, so that each belongs to a Job that is known, if it still has one
    return work_on(machine, _jobs(session), pods)


def read_podless(
    session: Session, machine: Machine, unix_s: Callable[[], float] = time.time
) -> tuple[PodlessJob, ...]:
    """Return this machine's worker Jobs that have no pod, and what their events say. Raises: as `read_work`."""
    lacking = [job for job in _jobs(session) if not is_over(job) and not has_pod(job)]
    if not lacking:
        return ()
    jobs = [job for job in work_on(machine, lacking, _pods(session)).jobs if not job.is_going]
    events = _events(session) if jobs else []
    return tuple(
        PodlessJob(job.name, _age_s(job, unix_s()), _latest(events, job))
        for job in sorted(jobs, key=lambda job: job.name)
    )


def _jobs(session: Session) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = session.get(f"/apis/batch/v1/jobs?{_WORKERS}")["items"]
    return jobs


def _pods(session: Session) -> list[dict[str, Any]]:
    pods: list[dict[str, Any]] = session.get(f"/api/v1/pods?{_WORKERS}")["items"]
    return pods


def _age_s(job: Job, unix_s: float) -> float:
    """How long it can have been without a pod: since it was created, unless it had one before."""
    if job.has_lost:
        return 0.0
    try:
        created_s = datetime.fromisoformat(job.created.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0
    return max(0.0, unix_s - created_s)


def _events(session: Session) -> list[dict[str, Any]]:
    """Return the events of all Jobs. Without the right to read them the Jobs are still known."""
    try:
        events: list[dict[str, Any]] = session.get(f"/api/v1/events?{_OF_JOBS}")["items"]
    except SilentError:
        raise
    except AgentError:
        return []
    return events


def _latest(events: Iterable[dict[str, Any]], job: Job) -> str | None:
    """Return the Job's latest warning, or else its latest event, as "REASON: MESSAGE"."""
    own = [each for each in events if each["involvedObject"].get("uid") == job.uid]
    if not own:
        return None
    event = max(own, key=lambda each: (each.get("type") == "Warning", _when(each)))
    return " ".join(f"{event.get('reason')}: {event.get('message')}".split())[:_TEXT_LIMIT]


def _when(event: dict[str, Any]) -> str:
    """When an event was last seen; the texts of Kubernetes' times sort as the times do."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")
