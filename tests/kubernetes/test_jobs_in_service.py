"""Worker Jobs and the cordon through the life of a real agent, with a real API server: field cases A1, A3, A4, A5."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands.test_doctor import diagnose
from tests.integration.lab import AgentProcess, Lab, laboratory, wait_for
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.server import MERGE, NODE, PODS, RealKubernetes
from tests.kubernetes.test_gateway_token import JOBS, machine_with

pytestmark = pytest.mark.kubernetes

OWN_CORDON = {
    "metadata": {"annotations": {"beta9-worker/cordoned": "leaving"}},
    "spec": {"unschedulable": True},
}
NO_INTERNET = "127.0.0.1:1"
EVENT = 'FailedCreate: Error creating: pods "{}-" is forbidden: pod rejected: RuntimeClass "nvidia" not found'


@pytest.fixture
def kubelet(real: RealKubernetes) -> Iterator[Kubelet]:
    real.set_node(gpus=2)
    with Kubelet(real) as running:
        yield running


@pytest.fixture
def agent(lab: Lab, real: RealKubernetes, kubelet: Kubelet) -> AgentProcess:
    """A machine in service."""
    agent = machine_with(lab, real, node_interval_s=1, job_pod_s=4).start()
    agent.wait_back()
    return agent


def work(lab: Lab, kubelet: Kubelet) -> str:
    """Let the gateway place one worker and no more; return its pod's name."""
    lab.gateway.set_demand("gpu", 1)
    (pod,) = wait_for("a worker runs", kubelet.running)
    lab.gateway.set_demand("gpu", 0)
    return pod


def jobs(real: RealKubernetes) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = real.ask("GET", JOBS)[1]["items"]
    return listed


def lose(real: RealKubernetes, pod: str) -> None:
    """Delete a worker's pod, and wait until its Job is between two pods."""
    assert real.ask("DELETE", f"{PODS}/{pod}")[0] == 200
    wait_for("it counts as failed", lambda: jobs(real)[0]["status"].get("failed"))
    assert jobs(real)[0]["status"].get("active") is None


def logged_again(agent: AgentProcess, name: str, before: int) -> list[dict[str, Any]]:
    """Return the lines of an event since there were `before` of them."""
    return agent.events(name)[before:]


def in_service_at_once(agent: AgentProcess) -> None:
    """Start it again. It must offer with its first registration, not with the probe after its own uncordoning."""
    registered, offers = len(agent.events("registered")), len(agent.events("offering"))
    agent.start().wait_back()
    assert [line["cpu_millicores"] > 0 for line in logged_again(agent, "registered", registered)] == [True]
    assert [line["what"] for line in logged_again(agent, "offering", offers)] == ["everything"]


def test_nothing_of_a_drained_worker_is_left_and_the_next_start_offers_at_once(
    lab: Lab, real: RealKubernetes, kubelet: Kubelet, agent: AgentProcess
) -> None:
    """Field cases A1, A4, A5: the worker ends when told to, before its Job would make the next pod."""
    work(lab, kubelet)
    assert agent.stop(grace_s=60) == 0
    assert agent.events("drain")[-1]["step"] == "farewell"
    assert jobs(real) == []
    assert real.ask("GET", PODS)[1]["items"] == []
    assert real.ask("GET", NODE)[1]["spec"].get("unschedulable")
    in_service_at_once(agent)
    assert not real.ask("GET", NODE)[1]["spec"].get("unschedulable")
    assert jobs(real) == []
    assert not agent.events("drain_trouble")


def test_a_job_between_two_pods_is_drained_although_no_worker_runs(
    lab: Lab, real: RealKubernetes, kubelet: Kubelet, agent: AgentProcess
) -> None:
    """Field case A1: seen in the field as `active: null, failed: 1`, exit 0, and a pod 13 s later."""
    lose(real, work(lab, kubelet))
    assert agent.stop(grace_s=60) == 0
    assert jobs(real) == []


def test_a_dead_worker_s_job_does_not_come_back_when_the_cordon_goes(
    lab: Lab, real: RealKubernetes, kubelet: Kubelet, agent: AgentProcess
) -> None:
    """Field case A1: the agent was killed in its drain, and the Job's next pod waits for the end of the cordon."""
    pod = work(lab, kubelet)
    agent.signal(signal.SIGKILL)
    agent.wait_exit()
    assert real.ask("PATCH", NODE, OWN_CORDON, content=MERGE)[0] == 200
    lose(real, pod)
    wait_for("its next pod waits", lambda: real.ask("GET", PODS)[1]["items"])
    name = jobs(real)[0]["metadata"]["name"]
    agent.start().wait_back()
    assert jobs(real) == []
    assert kubelet.running() == []
    assert name in [each for line in agent.events("jobs_cleared") for each in line["jobs"]]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1], ids=["killed", "handed over"])
def test_a_worker_that_runs_lives_through_the_end_of_its_agent(
    lab: Lab, real: RealKubernetes, kubelet: Kubelet, agent: AgentProcess, number: signal.Signals
) -> None:
    pod = work(lab, kubelet)
    agent.signal(number)
    agent.wait_exit()
    agent.start().wait_back()
    assert kubelet.running() == [pod]
    assert not agent.events("jobs_cleared")


def test_a_person_s_cordon_is_the_reason_beside_a_registration_without_capacity(
    lab: Lab, real: RealKubernetes, kubelet: Kubelet
) -> None:
    """Field case A4: `registered` with cpu 0 stood in the log without an `offering` line that says why."""
    assert real.ask("PATCH", NODE, {"spec": {"unschedulable": True}}, content=MERGE)[0] == 200
    agent = machine_with(lab, real).start()
    wait_for("it is registered", lambda: agent.events("registered"))
    names = [line["event"] for line in agent.events() if line["event"] in {"offering", "registered"}]
    assert names[:2] == ["offering", "registered"]
    assert agent.events("registered")[0]["cpu_millicores"] == 0
    assert "cordoned" in agent.events("offering")[0]["reason"]
    assert not agent.events("drain_trouble")


def test_a_node_that_comes_after_the_agent_is_nothing_to_warn_of(
    lab: Lab, real: RealKubernetes, kubelet: Kubelet
) -> None:
    """Field case A5: `drain_trouble` ("the Kubernetes node of this machine is not known yet") at an ordinary start."""
    real.remove_node()
    agent = machine_with(lab, real, node_interval_s=1).start()
    wait_for("it says that there is none", lambda: "none of the 0" in str(agent.status().get("kubernetes")))
    real.add_node()
    real.set_node(gpus=2)
    agent.wait_back()
    assert not agent.events("drain_trouble")


def test_a_job_that_gets_no_pod_is_named_and_nothing_more_is_offered(
    tmp_path: Path, real: RealKubernetes, kubelet: Kubelet
) -> None:
    """Field case A3: the pool's RuntimeClass is missing; the machine counted as full, and nobody said why."""
    options = ("--cleanup-interval", "1", "--pool", "gpu::generic:nvidia")
    with laboratory(tmp_path, gateway_options=options) as lab:
        agent = machine_with(lab, real, node_interval_s=1, job_pod_s=4).start()
        agent.wait_back()
        lab.gateway.set_demand("gpu", 1)
        (job,) = wait_for("a Job is placed", lambda: jobs(real))
        name = job["metadata"]["name"]
        wait_for("nothing is offered", lambda: not lab.gateway.would_place(agent.machine_id)[0])
        status = agent.status()
        assert (status["state"], status["placement"]["blocked_by"]) == ("READY", "job")
        (shown,) = status["kubernetes"]["jobs_without_pod"]
        assert (shown["name"], shown["event"]) == (name, EVENT.format(name))
        found = diagnose(agent, NO_INTERNET).checks["worker jobs"]
        assert found["verdict"] == "fail"
        for text in (status["capacity"]["reason"], agent.events("offering")[-1]["reason"], found["seen"]):
            assert name in text
            assert EVENT.format(name) in text
        lab.gateway.set_demand("gpu", 0)
        assert real.ask("DELETE", f"{JOBS}/{name}")[0] == 200
        agent.wait_back()
        assert agent.status()["kubernetes"]["jobs_without_pod"] == []
