"""What is offered is what the machine's Kubernetes node can give, told to a real agent and read at the gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.agent_process import AgentProcess
from tests.integration.commands.test_doctor import diagnose
from tests.integration.lab import Lab, laboratory
from tests.integration.polling import wait_for

TUNING = {"node_grace_s": 0, "node_interval_s": 0.2, "kube_interval_s": 0.2}
SMALL = {"cpu": "1", "memory": "4096Mi"}
"""Less than any machine has that runs these tests."""
NO_INTERNET = "127.0.0.1:1"
UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"

Change = Callable[[Lab], None]


def node(**changes: Any) -> Change:
    return lambda lab: lab.kubernetes.set_node(**changes)


def pod(**requests: str) -> Change:
    return lambda lab: lab.kubernetes.add_pod("theirs", requests)


def taint(key: str, effect: str, value: str = "") -> Change:
    return node(taints=[{"key": key, "effect": effect} | ({"value": value} if value else {})])


def start(lab: Lab, *changes: Change) -> AgentProcess:
    """Start an agent that reads the node, after these changes to it."""
    for change in changes:
        change(lab)
    return lab.agent(TUNING, BETA9_KUBECONFIG=str(lab.kubeconfig), BETA9_KEEPALIVE_INTERVAL="1").start()


def registered(lab: Lab, agent: AgentProcess) -> tuple[int, int, int]:
    """Return millicores, MiB and GPUs as the gateway knows them."""
    machine = lab.gateway.machine(agent.machine_id)
    assert machine is not None
    return machine["cpu_millicores"], machine["memory_mib"], machine["gpu_count"]


@pytest.mark.parametrize(
    ("changes", "cpu_millicores", "memory_mib", "gpus"),
    [
        ((node(allocatable=SMALL),), 500, 3072, 2),
        ((node(allocatable={"cpu": "900m", "memory": "2Gi", "hugepages-2Mi": "16Gi"}),), 400, 1024, 2),
        ((node(allocatable=SMALL), pod(cpu="250m", memory="1Gi")), 250, 2048, 2),
        ((node(allocatable={"cpu": "1e0", "memory": "4294967296000m"}),), 500, 3072, 2),
        ((node(allocatable=SMALL), pod(**{"nvidia.com/gpu": "1"})), 500, 3072, 1),
        ((node(allocatable=SMALL), taint("nvidia.com/gpu", "PreferNoSchedule")), 500, 3072, 2),
    ],
    ids=["8.1", "8.2", "8.3", "other spellings", "a GPU of others", "a preference"],
)
def test_no_more_is_offered_than_the_node_gives(
    node_lab: Lab, changes: tuple[Change, ...], cpu_millicores: int, memory_mib: int, gpus: int
) -> None:
    """Field cases 8.1 to 8.3."""
    agent = start(node_lab, *changes)
    agent.wait_back()
    assert registered(node_lab, agent) == (cpu_millicores, memory_mib, gpus)


@pytest.fixture
def node_lab(tmp_path: Path) -> Iterator[Lab]:
    """A laboratory whose node has two GPUs."""
    with laboratory(tmp_path, kubernetes_options=("--gpus", "2")) as made:
        yield made


@pytest.mark.parametrize(
    ("changes", "by", "reason", "healed"),
    [
        ((taint("nvidia.com/gpu", "NoSchedule"),), "node", "nvidia.com/gpu:NoSchedule", node(taints=[])),
        (
            (taint(UNINITIALIZED, "NoSchedule", "true"),),
            "node",
            f"{UNINITIALIZED}=true:NoSchedule",
            node(taints=[]),
        ),
        ((taint("maintenance", "NoExecute"),), "node", "maintenance:NoExecute", node(taints=[])),
        (
            (node(allocatable=SMALL), pod(cpu="500m")),
            "full",
            "other pods request 500 and 0",
            node(allocatable={}),
        ),
        (
            (pod(**{"nvidia.com/gpu": "2"}),),
            "node",
            "other pods hold 2 of the 2 nvidia.com/gpu",
            lambda lab: lab.kubernetes.delete_pod("theirs"),
        ),
        (
            (node(allocatable={"pods": "1"}), pod(cpu="1m")),
            "node",
            "runs as many pods as it may",
            node(allocatable={}),
        ),
        ((node(absent=True),), "node", "none of the 0 Kubernetes nodes", node(absent=False)),
    ],
    ids=[
        "8.4 a GPU's taint",
        "8.4 a cloud's taint",
        "NoExecute",
        "no processor left",
        "all GPUs",
        "pods",
        "no node",
    ],
)
def test_nothing_is_offered_where_no_worker_could_start(
    node_lab: Lab, changes: tuple[Change, ...], by: str, reason: str, healed: Change
) -> None:
    """Field case 8.4, and an API without a node: named in /status, offered again once it is over."""
    agent = start(node_lab, *changes)
    wait_for("it is leased", lambda: node_lab.gateway.status(agent.machine_id) == "ready")
    status = agent.status()
    assert not status["capacity"]["offered"]
    assert status["placement"]["blocked_by"] == by
    assert reason in status["capacity"]["reason"]
    assert not node_lab.gateway.would_place(agent.machine_id)[0]
    healed(node_lab)
    agent.wait_back()
    assert node_lab.gateway.would_place(agent.machine_id)[0]


def test_what_changes_on_the_node_changes_the_offer_and_never_the_gpus(node_lab: Lab) -> None:
    """The gateway subtracts GPUs unsigned: another pod's GPU withdraws the offer and does not lower the count."""
    agent = start(node_lab, node(allocatable=SMALL))
    agent.wait_back()
    node_lab.kubernetes.add_pod("theirs", {"cpu": "100m", "nvidia.com/gpu": "1"})
    wait_for("the offer is withdrawn", lambda: registered(node_lab, agent) == (0, 0, 2))
    assert "other pods hold 1 of the 2 nvidia.com/gpu" in agent.status()["capacity"]["reason"]
    node_lab.kubernetes.delete_pod("theirs")
    wait_for("all is offered again", lambda: registered(node_lab, agent) == (500, 3072, 2))


def test_an_idle_machine_goes_on_with_the_gpus_that_others_leave(node_lab: Lab) -> None:
    agent = node_lab.agent(
        {**TUNING, "gpu_settle_s": 1},
        BETA9_KUBECONFIG=str(node_lab.kubeconfig),
        BETA9_KEEPALIVE_INTERVAL="1",
    )
    agent.start().wait_back()
    node_lab.kubernetes.add_pod("theirs", {"nvidia.com/gpu": "1"})
    wait_for("the offer is withdrawn", lambda: registered(node_lab, agent)[0] == 0)
    wait_for("one is offered", lambda: registered(node_lab, agent)[0] > 0)
    assert registered(node_lab, agent)[2] == 1
    node_lab.kubernetes.delete_pod("theirs")
    wait_for("both are offered again", lambda: registered(node_lab, agent)[2] == 2)


def test_doctor_fails_where_the_cluster_has_no_node_for_this_machine(lab: Lab) -> None:
    """With a running agent and without one."""
    agent = lab.agent(TUNING, BETA9_KUBECONFIG=str(lab.kubeconfig))
    lab.kubernetes.set_node(absent=True)
    alone = diagnose(agent, NO_INTERNET).checks["k3s node"]
    agent.start()
    wait_for("the reason is in /status", lambda: "none of the 0" in str(agent.status().get("capacity")))
    beside = diagnose(agent, NO_INTERNET).checks["k3s node"]
    for found in (alone, beside):
        assert found["verdict"] == "fail"
        assert "none of the 0 Kubernetes nodes" in found["seen"]
        assert "nothing is offered" in found["seen"]
