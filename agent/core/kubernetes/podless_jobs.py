"""Worker Jobs that get no pod: the sign that no worker can start here, whatever the reason.

A RuntimeClass that is missing, a quota, an admission rule: the gateway hears of none of them, and counts the machine as
full. So after `job_pod_s` nothing more is offered until the Job has a pod, or is gone.
"""

from __future__ import annotations

from agent.core.context import Context
from agent.core.host.facts import NodeFacts
from agent.core.kubernetes.model import Kube, WaitingJob


def follow(kube: Kube, node: NodeFacts | None, ctx: Context) -> tuple[WaitingJob, ...]:
    """Return the Jobs without a pod, each with when that began.

    Its age is believed once: the wall clock, by which it was read, may be set later.
    """
    known = {job.name: job.since_s for job in kube.podless}
    return tuple(
        WaitingJob(job.name, known.get(job.name, ctx.now_s - job.age_s), job.event)
        for job in (node.podless if node else ())
    )


def reason(kube: Kube, ctx: Context) -> str | None:
    """Return which Job has been without a pod for too long, and why; None if none has."""
    late = [job for job in kube.podless if ctx.now_s - job.since_s >= ctx.policy.job_pod_s]
    if not late:
        return None
    first = late[0]
    others = f" (and {len(late) - 1} more)" if len(late) > 1 else ""
    return (
        f"the gateway's Job {first.name}{others} has had no pod for over {ctx.policy.job_pod_s:g} s: "
        f"{first.event or 'no event says why'}; correct that or delete the Job ('kubectl describe job {first.name}')"
    )
