"""Fault rows 80 and 81: worker Jobs that would bring back a worker that has ended, and Jobs that never get a pod.

Scaled: a Job makes its next pod BACKOFF_S after one was lost instead of 10 s, and may be without one for POD_S instead
of 60 s; the node is read every second instead of every 10 s.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.agent_process import AgentProcess
from tests.integration.bounds import within
from tests.integration.commands.test_doctor import diagnose
from tests.integration.fault_report import Report
from tests.integration.faults.interruption.cloud_machine import is_pod_running
from tests.integration.lab import Lab, laboratory
from tests.integration.polling import wait_for

BACKOFF_S = 2.0
POD_S = 4
TUNING = {"node_interval_s": 1, "job_pod_s": POD_S}
NO_INTERNET = "127.0.0.1:1"
OWN_CORDON = {"beta9-worker/cordoned": "leaving"}


def busy_agent(lab: Lab, workers: int) -> AgentProcess:
    """Start an agent, and let the gateway place that many workers and no more."""
    agent = lab.ready_agent(
        TUNING,
        BETA9_KUBECONFIG=str(lab.kubeconfig),
        BETA9_KEEPALIVE_INTERVAL="1",
        BETA9_RESERVE_CPU="0m",  # so that two workers fit a machine with two processors
    )
    lab.gateway.set_demand("gpu", workers)
    wait_for("the workers run", lambda: len(running(lab)) == workers)
    lab.gateway.set_demand("gpu", 0)
    return agent


def running(lab: Lab) -> list[str]:
    """Return the names of the pods that run."""
    return [pod["metadata"]["name"] for pod in lab.kubernetes.pods() if is_pod_running(pod)]


def jobs(lab: Lab) -> list[str]:
    return [job["metadata"]["name"] for job in lab.kubernetes.jobs()]


def lose_pod(lab: Lab, pod: str) -> None:
    """Delete a worker's pod: its Job has none then, and is not over."""
    lab.kubernetes.delete_pod(pod, "default")
    between = [job["status"] for job in lab.kubernetes.jobs() if not job["status"].get("active")]
    assert [status["failed"] for status in between] == [1]


def told_to_end(lab: Lab, agent: AgentProcess) -> list[str]:
    """The worker ends within its grace period, so that its Job is between two pods when the drain ends."""
    lab.kubernetes.set_node(stop_s=0.5)
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    assert jobs(lab) == []
    return []


def between_pods(lab: Lab, agent: AgentProcess) -> list[str]:
    """The worker's pod is gone when the drain begins."""
    lose_pod(lab, running(lab)[0])
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    assert jobs(lab) == []
    return []


def cut_short(lab: Lab, agent: AgentProcess) -> list[str]:
    """The agent was killed in its drain: one worker's next pod waits for the end of the cordon, the other runs."""
    lost, kept = running(lab)
    agent.signal(signal.SIGKILL)
    agent.wait_exit()
    lab.kubernetes.set_node(unschedulable=True, annotations=OWN_CORDON)
    lose_pod(lab, lost)
    wait_for("its next pod waits", lambda: len(lab.kubernetes.pods()) == 2)
    assert len(jobs(lab)) == 2
    return [kept]


@pytest.mark.fault(80)
@pytest.mark.parametrize(
    ("workers", "stop"),
    [(1, told_to_end), (1, between_pods), (2, cut_short)],
    ids=["told to end", "between two pods", "cut short"],
)
def test_fault_80_a_drained_job_between_two_pods(
    lab: Lab, report: Report, workers: int, stop: Callable[[Lab, AgentProcess], list[str]]
) -> None:
    lab.kubernetes.set_node(gpus=2, backoff_s=BACKOFF_S)
    agent = busy_agent(lab, workers)
    left = stop(lab, agent)
    times = len(agent.events("registered"))
    began_s = time.monotonic()
    agent.start().wait_back()
    back_s = time.monotonic() - began_s
    assert running(lab) == left
    assert len(jobs(lab)) == len(left)
    assert not lab.kubernetes.node()["spec"].get("unschedulable")
    assert not agent.events("drain_trouble")
    first = agent.events("registered")[times]
    assert first["cpu_millicores"] > 0 or left, "it waited for the probe that follows its own uncordoning"
    # Longer than a Job would take to make another pod.
    time.sleep(BACKOFF_S + 1)
    assert running(lab) == left
    report(
        f"{len(left)} of {workers} workers left, with as many Jobs, also after the next start, which offered after "
        f"{back_s:.1f} s",
        back_s,
    )


@pytest.mark.fault(81)
def test_fault_81_no_runtime_class(tmp_path: Path, report: Report) -> None:
    with laboratory(tmp_path, gateway_options=("--pool", "gpu::generic:nvidia")) as lab:
        lab.kubernetes.set_node(runtime_classes=[])
        agent = lab.ready_agent(TUNING, BETA9_KUBECONFIG=str(lab.kubeconfig), BETA9_KEEPALIVE_INTERVAL="1")
        lab.gateway.set_demand("gpu", 1)
        (job,) = wait_for("a Job is placed", lambda: jobs(lab))
        began_s = time.monotonic()
        wait_for("nothing is offered", lambda: not lab.gateway.would_place(agent.machine_id)[0])
        withdrawn_s = time.monotonic() - began_s
        assert agent.status()["state"] == "READY"
        assert_named(lab, agent, job)
        lab.kubernetes.set_node(runtime_classes=["nvidia"])
        agent.wait_back()
        assert len(running(lab)) == 1
        assert agent.status()["kubernetes"]["jobs_without_pod"] == []
    assert withdrawn_s < within(POD_S + 5)
    report(
        f"nothing offered {withdrawn_s:.1f} s after the Job was placed (limit {POD_S} s, default 60 s), named with its "
        "event; offered again once the RuntimeClass was there",
        withdrawn_s,
    )


def assert_named(lab: Lab, agent: AgentProcess, job: str) -> None:
    """The Job and its event's text are in `/status`, in the log and in doctor's report."""
    event = f'FailedCreate: Error creating: pods "{job}-" is forbidden: pod rejected: RuntimeClass "nvidia" not found'
    status = agent.status()
    assert status["placement"]["blocked_by"] == "job"
    texts = [status["capacity"]["reason"], agent.events("offering")[-1]["reason"]]
    (shown,) = status["kubernetes"]["jobs_without_pod"]
    assert (shown["name"], shown["event"]) == (job, event)
    for settings in ({}, {"BETA9_STATUS_ADDR": "127.0.0.1:1"}):  # by the agent's word, and without an agent
        wait_for("doctor fails", lambda: "worker jobs" in diagnose(agent, NO_INTERNET, **settings).failed())  # noqa: B023
        texts.append(diagnose(agent, NO_INTERNET, **settings).checks["worker jobs"]["seen"])
    for text in texts:
        assert job in text
        assert event in text
