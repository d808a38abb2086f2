"""Checks of what the gateway's workers need from Kubernetes: that each Job gets its pod, and the RuntimeClass."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from agent.adapters.kubernetes.api import Api, ApiError
from agent.adapters.kubernetes.node import read_machine
from agent.adapters.kubernetes.worker_jobs import read_podless
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, fail, ok, skip, warn
from agent.errors import AgentError

READ_S = 4.0
RUNTIME_CLASS = "nvidia"
CREATE_CLASS = f"run the bootstrap again, which creates the RuntimeClass '{RUNTIME_CLASS}'"


def _jobs(case: Case) -> Finding:
    """Check that no worker's Job waits in vain for a pod."""
    try:
        waiting = _without_pod(case)
    except AgentError as error:
        return skip(f"unknown: {error}")
    if waiting is None:
        return skip("unknown: there is no kubeconfig to read the Jobs with")
    late = [job for job in waiting if job["since_s"] >= case.settings.policy.job_pod_s]
    if late:
        told = "; ".join(
            f"{job['name']} has had no pod for {job['since_s']:.0f} s: {job['event'] or 'no event says why'}"
            for job in late
        )
        return fail(
            f"{told}. Until that is corrected, nothing more is offered",
            f"correct what the event says ({CREATE_CLASS}), or delete the Job; "
            f"'kubectl describe job {late[0]['name']}' shows its events",
        )
    return ok(f"none waits in vain for a pod{f' ({len(waiting)} for a moment so far)' if waiting else ''}")


def _without_pod(case: Case) -> list[dict[str, Any]] | None:
    """Return the Jobs as `/status` shows them, else as they can be read; None if neither. Raises: AgentError."""
    shown = ((case.agent_status() or {}).get("kubernetes") or {}).get("jobs_without_pod")
    if isinstance(shown, list):
        return shown
    path = case.found("k3s login", Path)
    if path is None:
        return None
    with Api(path, case.redactor.add).session(READ_S) as session:
        machine = read_machine(session, socket.gethostname(), case.machine_id() or "")
        found = read_podless(session, machine)
    return [{"name": job.name, "since_s": job.age_s, "event": job.event} for job in found]


def _runtime_class(case: Case) -> Finding:
    """Check for the RuntimeClass that a pool with `runtime: nvidia` names in its Jobs."""
    if not case.found("nvidia driver", int):
        return skip("not needed: this machine has no NVIDIA GPU that works")
    path = case.found("k3s login", Path)
    if path is None:
        return skip("unknown: there is no kubeconfig to look with")
    try:
        with Api(path, case.redactor.add).session(READ_S) as session:
            session.get(f"/apis/node.k8s.io/v1/runtimeclasses/{RUNTIME_CLASS}")
    except ApiError as error:
        if error.status != 404:
            return skip(f"unknown: {error}")
        return warn(
            f"there is no RuntimeClass '{RUNTIME_CLASS}': workers of a pool with 'runtime: {RUNTIME_CLASS}' get no pod",
            CREATE_CLASS,
        )
    except AgentError as error:
        return skip(f"unknown: {error}")
    return ok(f"'{RUNTIME_CLASS}' is there")


CHECKS = (
    Check("worker jobs", _jobs, ("k3s login",)),
    Check("runtime class", _runtime_class, ("k3s login",), after=("nvidia driver",)),
)
