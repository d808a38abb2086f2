"""Fault rows 50 to 52, 64 and 68: the machine's own Kubernetes, its GPUs and the way back to it.

Scaled: the node's grace is GRACE_S instead of 30 s and the node is read every second instead of every 10 s. All
else has the timings that are shipped.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from agent.core.policy import Policy
from tests.integration.bounds import within
from tests.integration.lab import AgentProcess, Lab, laboratory, wait_for
from tests.integration.told import Tell

GRACE_S = 4
TUNING = {"node_grace_s": GRACE_S, "node_interval_s": 1}
STANDINS = Path(__file__).parents[1] / "standins" / "nvml"
REFUSED_S = 10.0
"""The row's own bound."""


def dial(address: str, limit_s: float = 2.0) -> str:
    """What a TLS client meets at a machine's address on the gateway's side: `refused`, `hangs` or `answers`."""
    hello = bytes.fromhex("160301000100")  # the head of a TLS record: a server waits for more, or ends it
    try:
        with socket.create_connection((address, 6443), timeout=limit_s) as connection:
            connection.sendall(hello)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
    except TimeoutError:
        return "hangs"
    except OSError:
        return "refused"
    return "answers"


def offers(agent: AgentProcess) -> bool:
    status = agent.status()
    return bool(status and status["capacity"]["offered"])


def wait_not_offering(lab: Lab, agent: AgentProcess) -> None:
    """Until the gateway itself would place nothing, and the machine is still leased."""
    wait_for("nothing is offered", lambda: not lab.gateway.would_place(agent.machine_id)[0])
    wait_for("leased all the same", lambda: lab.gateway.status(agent.machine_id) == "ready")
    assert not offers(agent)


def keepalives(lab: Lab, agent: AgentProcess) -> int:
    return len(
        [each for each in lab.gateway.requests("keepalive", agent.machine_id) if each["status"] == 200]
    )


@contextmanager
def frozen_then_thawed(lab: Lab) -> Iterator[None]:
    """The k3s process is stopped, as by SIGSTOP: the kernel accepts for it and nobody answers."""
    child = lab.processes["kubernetes"]
    child.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        child.signal(signal.SIGCONT)


@contextmanager
def refusing(lab: Lab) -> Iterator[None]:
    """k3s is down: nobody listens."""
    lab.kubernetes.refuse()
    try:
        yield
    finally:
        lab.kubernetes.listen()


Fault = Callable[[Lab], AbstractContextManager[None]]


@pytest.mark.fault(50)
@pytest.mark.parametrize("fault", [refusing, frozen_then_thawed], ids=["down", "frozen"])
def test_fault_50_k3s_down_or_frozen(lab: Lab, tell: Tell, fault: Fault) -> None:
    agent = lab.ready_agent(BETA9_KEEPALIVE_INTERVAL="1")
    address = agent.status()["registration"]["hostname"]
    began_s = time.monotonic()
    with fault(lab):
        wait_for("dials are refused", lambda: dial(address) == "refused")
        refused_s = time.monotonic() - began_s
        wait_not_offering(lab, agent)
        withdrawn_s = time.monotonic() - began_s
        status = agent.status()
        assert status["placement"]["keepalives_go"]
        assert not status["placement"]["work_can_be_placed"]
        assert "k3s" in status["placement"]["reason"]
        before = keepalives(lab, agent)
        wait_for("keepalives go on", lambda: keepalives(lab, agent) >= before + 2)
        assert agent.get("/healthz")[0] == 200
        assert dial(address) == "refused"
    began_s = time.monotonic()
    agent.wait_back()
    back_s = time.monotonic() - began_s
    assert lab.gateway.would_place(agent.machine_id)[0]
    assert max(refused_s, withdrawn_s) < within(REFUSED_S)
    tell(
        f"refused after {refused_s:.1f} s, nothing offered after {withdrawn_s:.1f} s, offered again in {back_s:.1f} s",
        max(refused_s, withdrawn_s, back_s),
    )


def with_boards(directory: Path) -> tuple[Path, dict[str, str]]:
    """Eight boards behind a stand-in for NVML; what its file says happens to them."""
    script = directory / "nvml"
    script.write_text("")
    (directory / "libnvidia-ml.so.1").touch()  # only looked for: the stand-in is what is loaded
    return script, {
        "NVML_STANDIN": str(script),
        "PYTHONPATH": str(STANDINS),
        "LD_LIBRARY_PATH": str(directory),
    }


@pytest.mark.fault(64)
def test_fault_64_reverse_child_frozen(lab: Lab, tell: Tell) -> None:
    agent = lab.ready_agent()
    before = agent.status()["registration"]["hostname"]
    outcomes: list[tuple[str, float]] = []

    def gateway_dials() -> None:
        began_s = time.monotonic()
        outcomes.append((dial(before, 60), time.monotonic() - began_s))

    os.kill(agent.ssh_pids()["reverse"], signal.SIGSTOP)
    began_s = time.monotonic()
    dialling = threading.Thread(target=gateway_dials, daemon=True)
    dialling.start()
    wait_for("another address serves", lambda: _moved(lab, agent, before))
    moved_s = time.monotonic() - began_s
    dialling.join(60)
    assert outcomes, "the gateway's dial still hangs"
    how, hung_s = outcomes[0]
    assert how != "hangs"
    wait_for("the old address refuses", lambda: dial(before) == "refused")
    assert hung_s < within(20)
    tell(
        f"a dial hung {hung_s:.1f} s, then {how}; {before} was replaced after {moved_s:.1f} s",
        max(hung_s, moved_s),
    )


def _moved(lab: Lab, agent: AgentProcess, before: str) -> bool:
    machine = lab.gateway.machine(agent.machine_id)
    return bool(machine and machine["hostname"] != before and agent.is_back())


@pytest.mark.fault(51)
@pytest.mark.parametrize("misfortune", ["hang", "sigfpe"])
def test_fault_51_nvml_hangs_or_crashes(lab: Lab, tell: Tell, misfortune: str, tmp_path: Path) -> None:
    script, boards = with_boards(tmp_path)
    agent = lab.ready_agent({"facts_interval_s": 1}, BETA9_KEEPALIVE_INTERVAL="1", **boards)
    wait_for("eight boards", lambda: agent.status()["capacity"]["gpu_count"] == 8)
    began_s = time.monotonic()
    script.write_text(misfortune)
    wait_for("the problem is told", lambda: any("NVML" in text for text in agent.status()["degraded"]))
    told_s = time.monotonic() - began_s
    before = keepalives(lab, agent)
    wait_for("keepalives go on", lambda: keepalives(lab, agent) >= before + 2)
    status = agent.status()
    assert status["capacity"]["gpu_count"] == 8
    assert status["capacity"]["offered"]
    assert len(status["gpus"]) == 8
    script.write_text("")
    wait_for("read again", lambda: not any("GPUs:" in text for text in agent.status()["degraded"]))
    tell(
        f"{misfortune}: told after {told_s:.1f} s, still 8 boards, keepalives went on; read again afterwards",
        told_s,
    )


@pytest.fixture
def gpu_lab(tmp_path: Path) -> Iterator[Lab]:
    """Its pool has GPUs, so that each worker holds one."""
    with laboratory(tmp_path, gateway_options=("--pool", "gpu:H100")) as made:
        yield made


@pytest.mark.fault(52)
def test_fault_52_a_gpu_falls_off(gpu_lab: Lab, tell: Tell, tmp_path: Path) -> None:
    lab = gpu_lab
    script, boards = with_boards(tmp_path)
    lab.kubernetes.set_node(gpus=8)
    agent = lab.ready_agent(
        {**TUNING, "facts_interval_s": 1},
        BETA9_KEEPALIVE_INTERVAL="1",
        BETA9_KUBECONFIG=str(lab.kubeconfig),
        **boards,
    )
    wait_for("eight free", lambda: _gpus(agent) == (8, 8))
    lab.gateway.set_demand("gpu", 1)
    wait_for("a worker holds one", lambda: _gpus(agent) == (8, 7))
    began_s = time.monotonic()
    script.write_text("lost:3")
    wait_for("one less is free", lambda: _gpus(agent) == (8, 6))
    fell_s = time.monotonic() - began_s
    wait_for("the gateway hears of it", lambda: _heard(lab, agent) == (8, 6))
    lost = [gpu for gpu in agent.status()["gpus"] if not gpu["healthy"]]
    assert [gpu["uuid"] for gpu in lost] == [agent.status()["gpus"][3]["uuid"]]
    assert any(lost[0]["uuid"] in text for text in agent.status()["degraded"])
    tell(
        f"free 7 → 6 after {fell_s:.1f} s with one worker running, gpu_count stays 8: {lost[0]['reason']}",
        fell_s,
    )


def _gpus(agent: AgentProcess) -> tuple[int, int]:
    capacity = agent.status()["capacity"]
    return capacity["gpu_count"], capacity["free_gpu_count"]


def _heard(lab: Lab, agent: AgentProcess) -> tuple[int, int]:
    machine = lab.gateway.machine(agent.machine_id)
    assert machine is not None
    return machine["gpu_count"], machine["metrics"]["free_gpu_count"]


@pytest.mark.fault(68)
@pytest.mark.parametrize(
    ("what", "fault", "healed"),
    [
        ("not Ready", {"ready": False}, {"ready": True}),
        ("DiskPressure", {"pressures": ["Disk"]}, {"pressures": []}),
        ("advertises 1", {"gpus": 1}, {"gpus": 2}),
    ],
    ids=["not_ready", "disk_pressure", "fewer_gpus"],
)
def test_fault_68_the_node_is_not_well_while_the_api_answers(
    lab: Lab, tell: Tell, what: str, fault: dict[str, object], healed: dict[str, object]
) -> None:
    lab.kubernetes.set_node(gpus=2)
    agent = lab.ready_agent(TUNING, BETA9_KEEPALIVE_INTERVAL="1", BETA9_KUBECONFIG=str(lab.kubeconfig))
    wait_for("two GPUs", lambda: _gpus(agent) == (2, 2))
    began_s = time.monotonic()
    lab.kubernetes.set_node(**fault)
    wait_not_offering(lab, agent)
    withdrawn_s = time.monotonic() - began_s
    status = agent.status()
    assert what in status["capacity"]["reason"]
    assert status["capacity"]["gpu_count"] == 2
    assert withdrawn_s >= GRACE_S
    lab.kubernetes.set_node(**healed)
    began_s = time.monotonic()
    agent.wait_back()
    back_s = time.monotonic() - began_s
    tell(
        f"{what}: nothing offered after {withdrawn_s:.1f} s with a grace of {GRACE_S} s "
        f"(shipped: {Policy().node_grace_s:g} s), offered again {back_s:.1f} s after healing",
        withdrawn_s,
    )
