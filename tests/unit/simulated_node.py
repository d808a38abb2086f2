"""The machine's node in a simulated world: workers and their Jobs, the cordon, and what a drain does with them."""

from __future__ import annotations

import math

from agent.core.events import Event, JobsCleared, NodeCordoned, WorkersListed
from agent.core.host.facts import NodeFacts
from tests.unit.simulated import Faults

JOB_PAUSE_S = 10.0
"""A Job makes its next pod this long after one was deleted (the gateway's contract)."""


class NodeSide:
    """The node of a simulated world, which inherits from it. Every worker has a Job, until that is deleted."""

    now_s: float
    faults: Faults

    def _add_node(self) -> None:
        self.workers: list[float] = []
        """When each worker on the node ends; infinite: not before it is told to."""
        self.has_jobs = True
        """The Jobs of these workers are there."""
        self.between_pods: list[float] = []
        """Jobs whose pod was deleted: when each makes the next one."""
        self.keeps_jobs = False
        """Jobs cannot be deleted."""
        self.came_back = 0
        """Workers that such a Job has started on the open node."""
        self.ends_after_s = 2.0
        """How long a worker takes to end once it is told to."""
        self.cordoned = False
        self.graces: list[float] = []
        """What workers were given each time that they were told to end."""

    def lose_worker(self) -> None:
        """Somebody deletes a worker's pod."""
        self.workers.pop()
        self.between_pods.append(self.now_s + JOB_PAUSE_S)

    def _node(self) -> NodeFacts:
        return NodeFacts(
            schedulable=not self.cordoned,
            gpus_capacity=1,
            gpus_allocatable=1,
            worker_count=len(self.workers),
        )

    def _run_jobs(self) -> None:
        """Let Jobs whose pause is over start a worker again, unless the node is cordoned."""
        due = [] if self.cordoned else [at_s for at_s in self.between_pods if at_s <= self.now_s]
        self.between_pods = [at_s for at_s in self.between_pods if at_s not in due]
        self.workers += [math.inf] * len(due)
        self.came_back += len(due)

    def _cordon(self, is_cordoned: bool) -> Event:
        if self.faults.k3s:
            return NodeCordoned(is_cordoned, self.faults.k3s)
        self.cordoned = is_cordoned
        return NodeCordoned(is_cordoned)

    def _clear(self) -> Event:
        if self.faults.k3s:
            return JobsCleared(error=self.faults.k3s)
        found = tuple(f"worker-{number}" for number, _ in enumerate(self.between_pods))
        self.between_pods = []
        return JobsCleared(found)

    def _see(self, number: int, grace_s: float | None) -> Event:
        if self.faults.k3s:
            return WorkersListed(number, None, self.faults.k3s)
        if grace_s is not None and not self.keeps_jobs:
            self.between_pods, self.has_jobs = [], False
        if grace_s is not None and self.workers:
            self.graces.append(grace_s)
            ends_at_s = self.now_s + min(grace_s, self.ends_after_s)
            self.workers = [min(each, ends_at_s) for each in self.workers]
        self.workers = [each for each in self.workers if each > self.now_s]
        to_come = len(self.between_pods) + len(self.workers) * self.has_jobs + self.keeps_jobs
        return WorkersListed(number, len(self.workers), to_come=to_come)
