"""What the machine's node can give, read from the stand-in and from a real API server, whose scheduler agrees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.core.events import Answer
from agent.core.host.facts import Held, NodeFacts
from tests.integration.lab import Lab, wait_for
from tests.kubernetes.server import RealKubernetes
from tests.kubernetes.test_adapter import JOBS, PODS, TIMEOUT_S, Kube, Subject, worker_job
from tests.kubernetes.test_gateway_token import machine_with

TAINTS = (
    {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
    {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"},
    {"key": "maintenance", "effect": "NoExecute"},
)


@pytest.fixture
def subject(api: Kube) -> Subject:
    return Subject(api).ready()


def pods_of(api: Kube, job: str) -> list[dict[str, Any]]:
    items = api.ask("GET", f"{PODS}?labelSelector=job-name={job}")[1]["items"]
    return [each for each in items if each["spec"].get("nodeName")]


def test_the_node_is_read_with_its_conditions(api: Kube, subject: Subject) -> None:
    api.set_node(gpus=8)
    well = NodeFacts(
        name=api.node_path.rpartition("/")[2],
        cpu_millicores=8000,
        memory_mib=32768,
        pods_free=110,
        gpus_capacity=8,
        gpus_allocatable=8,
        waiting_count=0,
    )
    assert subject.node() == well
    api.set_node(gpus=7, ready=False, pressures=("Disk", "PID"))
    assert subject.node() == replace(
        well,
        ready=False,
        pressures=("DiskPressure", "PIDPressure"),
        gpus_capacity=7,
        gpus_allocatable=7,
    )


def test_the_node_is_read_at_its_interval_not_with_each_probe(api: Kube, subject: Subject) -> None:
    subject.node()
    api.set_node(gpus=3)
    found = subject.kubernetes.probe(TIMEOUT_S).node
    assert found is not None
    assert found.gpus_allocatable == 1
    assert subject.node().gpus_allocatable == 3


def test_what_is_allocatable_and_what_others_request_is_read(api: Kube, subject: Subject) -> None:
    """Field cases 8.1 to 8.3."""
    api.set_node(gpus=2, cpu="1900m", memory="24117248Ki", pods="3")
    api.run_pod("theirs", {"cpu": "1500m", "memory": "16Gi", "nvidia.com/gpu": "1"})
    node = subject.node()
    assert (node.cpu_millicores, node.memory_mib, node.pods_free) == (1900, 23 << 10, 2)
    assert node.others == Held(1500, 16 << 10, 1)
    assert api.ask("POST", JOBS, worker_job("fits"))[0] == 201
    assert api.ask("POST", JOBS, worker_job("waits"))[0] == 201
    wait_for("one runs", lambda: subject.node().worker_count == 1)
    wait_for("the other finds no GPU", lambda: subject.node().waiting_count == 1)
    node = subject.node()
    assert (node.others, node.gpus_requested, node.pods_free) == (Held(1500, 16 << 10, 1), 2, 1)


@pytest.mark.parametrize("taint", TAINTS, ids=lambda taint: str(taint["key"]))
def test_a_taint_keeps_the_gateway_s_workers_away(api: Kube, subject: Subject, taint: dict[str, str]) -> None:
    """Field case 8.4."""
    api.taint(taint)
    node = subject.node()
    assert len(node.taints) == 1
    assert node.taints[0].startswith(taint["key"])
    assert api.ask("POST", JOBS, worker_job("waits"))[0] == 201
    wait_for("its pod waits", lambda: subject.node().waiting_count == 1)
    api.taint({**taint, "effect": "PreferNoSchedule"})
    wait_for("a preference does not keep it away", lambda: pods_of(api, "waits"))
    assert subject.node().taints == ()


def test_a_cluster_without_a_node_is_told_from_one_that_cannot_be_read(api: Kube, subject: Subject) -> None:
    api.remove_node()
    subject.clock.now += 11
    found = subject.kubernetes.probe(TIMEOUT_S)
    assert found.probe.answer is Answer.ANSWERED
    assert found.node is None
    assert found.no_node is not None
    assert "none of the 0 Kubernetes nodes" in found.no_node
    api.add_node()
    # At once, not only at the next interval: until then nothing is offered.
    back = subject.kubernetes.probe(TIMEOUT_S)
    assert (back.node is not None, back.no_node) == (True, None)


@pytest.mark.kubernetes
def test_a_machine_without_a_node_gets_no_work_from_a_real_api_server(lab: Lab, real: RealKubernetes) -> None:
    """A Job that was placed there would never get a pod."""
    real.remove_node()
    agent = machine_with(lab, real, node_interval_s=1, node_grace_s=0).start()
    wait_for("it is leased", lambda: lab.gateway.status(agent.machine_id) == "ready")
    status = agent.status()
    assert not status["capacity"]["offered"]
    assert "none of the 0 Kubernetes nodes" in status["capacity"]["reason"]
    assert not lab.gateway.would_place(agent.machine_id)[0]
    real.add_node()
    agent.wait_back()
    real.taint(TAINTS[0])
    wait_for("withdrawn", lambda: not lab.gateway.would_place(agent.machine_id)[0])
    assert "nvidia.com/gpu:NoSchedule" in agent.status()["capacity"]["reason"]
    real.taint()
    agent.wait_back()
