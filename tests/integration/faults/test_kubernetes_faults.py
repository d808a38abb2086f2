"""Fault rows 50 to 52, 64 and 68: the machine's own Kubernetes, its GPUs and the reverse tunnel.

Scaled: the node's grace period is GRACE_S instead of 30 s, and the node is read every second instead of every 10 s. All
other timings are the defaults.
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
from tests.integration.agent_process import AgentProcess
from tests.integration.bounds import within
from tests.integration.fault_report import Report
from tests.integration.lab import Lab, laboratory
from tests.integration.polling import wait_for

GRACE_S = 4
TUNING = {"node_grace_s": GRACE_S, "node_interval_s": 1}
STANDINS = Path(__file__).parents[1] / "standins" / "nvml"
REFUSED_S = 10.0
"""Row 50's limit."""


def dial(address: str, limit_s: float = 2.0) -> str:
    """Connect to a machine's address on the gateway's side; return `refused`, `hangs` or `answers`."""
    hello = bytes.fromhex("160301000100")  # the start of a TLS record: a server waits for more, or hangs up
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
    """Wait until the gateway would place nothing while the machine keeps its lease."""
    wait_for("nothing is offered", lambda: not lab.gateway.would_place(agent.machine_id)[0])
    wait_for("the lease is kept", lambda: lab.gateway.status(agent.machine_id) == "ready")
    assert not offers(agent)


def accepted_keepalives(lab: Lab, agent: AgentProcess) -> int:
    return len(
        [each for each in lab.gateway.requests("keepalive", agent.machine_id) if each["status"] == 200]
    )


@contextmanager
def frozen_then_thawed(lab: Lab) -> Iterator[None]:
    """Stop the k3s process (SIGSTOP): the kernel still accepts connections, but nothing answers."""
    child = lab.processes["kubernetes"]
    child.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        child.signal(signal.SIGCONT)


@contextmanager
def refusing(lab: Lab) -> Iterator[None]:
    """Take k3s down: nothing listens."""
    lab.kubernetes.refuse()
    try:
        yield
    finally:
        lab.kubernetes.listen()


Fault = Callable[[Lab], AbstractContextManager[None]]


@pytest.mark.fault(50)
@pytest.mark.parametrize("fault", [refusing, frozen_then_thawed], ids=["down", "frozen"])
def test_fault_50_k3s_down_or_frozen(lab: Lab, report: Report, fault: Fault) -> None:
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
        before = accepted_keepalives(lab, agent)
        wait_for("keepalives go on", lambda: accepted_keepalives(lab, agent) >= before + 2)
        assert agent.get("/healthz")[0] == 200
        assert dial(address) == "refused"
    began_s = time.monotonic()
    agent.wait_back()
    back_s = time.monotonic() - began_s
    assert lab.gateway.would_place(agent.machine_id)[0]
    assert max(refused_s, withdrawn_s) < within(REFUSED_S)
    report(
        f"refused after {refused_s:.1f} s, nothing offered after {withdrawn_s:.1f} s, offered again in {back_s:.1f} s",
        max(refused_s, withdrawn_s, back_s),
    )


def with_gpus(directory: Path) -> tuple[Path, dict[str, str]]:
    """Return a script file and settings for eight GPUs behind the NVML stand-in; the file says what happens to them."""
    script = directory / "nvml"
    script.write_text("")
    (directory / "libnvidia-ml.so.1").touch()  # its presence is checked; the stand-in is loaded instead
    return script, {
        "NVML_STANDIN": str(script),
        "PYTHONPATH": str(STANDINS),
        "LD_LIBRARY_PATH": str(directory),
    }


@pytest.mark.fault(64)
def test_fault_64_reverse_child_frozen(lab: Lab, report: Report) -> None:
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
    wait_for("another address serves", lambda: has_moved(lab, agent, before))
    moved_s = time.monotonic() - began_s
    dialling.join(60)
    assert outcomes, "the gateway's connection attempt still hangs"
    outcome, hung_s = outcomes[0]
    assert outcome != "hangs"
    wait_for("the old address refuses", lambda: dial(before) == "refused")
    assert hung_s < within(20)
    report(
        f"a connection attempt hung {hung_s:.1f} s, then {outcome}; {before} was replaced after {moved_s:.1f} s",
        max(hung_s, moved_s),
    )


def has_moved(lab: Lab, agent: AgentProcess, before: str) -> bool:
    machine = lab.gateway.machine(agent.machine_id)
    return bool(machine and machine["hostname"] != before and agent.is_back())


@pytest.mark.fault(51)
@pytest.mark.parametrize("nvml_fault", ["hang", "sigfpe"])
def test_fault_51_nvml_hangs_or_crashes(lab: Lab, report: Report, nvml_fault: str, tmp_path: Path) -> None:
    script, settings = with_gpus(tmp_path)
    agent = lab.ready_agent({"facts_interval_s": 1}, BETA9_KEEPALIVE_INTERVAL="1", **settings)
    wait_for("eight GPUs", lambda: agent.status()["capacity"]["gpu_count"] == 8)
    began_s = time.monotonic()
    script.write_text(nvml_fault)
    wait_for("the error in /status", lambda: any("NVML" in text for text in agent.status()["degraded"]))
    noticed_s = time.monotonic() - began_s
    before = accepted_keepalives(lab, agent)
    wait_for("keepalives go on", lambda: accepted_keepalives(lab, agent) >= before + 2)
    status = agent.status()
    assert status["capacity"]["gpu_count"] == 8
    assert status["capacity"]["offered"]
    assert len(status["gpus"]) == 8
    script.write_text("")
    wait_for("read again", lambda: not any("GPUs:" in text for text in agent.status()["degraded"]))
    report(
        f"{nvml_fault}: in /status after {noticed_s:.1f} s, still 8 GPUs, keepalives continued; read again afterwards",
        noticed_s,
    )


@pytest.fixture
def gpu_lab(tmp_path: Path) -> Iterator[Lab]:
    """A laboratory whose pool has GPUs, so that each worker holds one."""
    with laboratory(tmp_path, gateway_options=("--pool", "gpu:H100")) as made:
        yield made


@pytest.mark.fault(52)
def test_fault_52_a_gpu_falls_off(gpu_lab: Lab, report: Report, tmp_path: Path) -> None:
    lab = gpu_lab
    script, settings = with_gpus(tmp_path)
    lab.kubernetes.set_node(gpus=8)
    agent = lab.ready_agent(
        {**TUNING, "facts_interval_s": 1},
        BETA9_KEEPALIVE_INTERVAL="1",
        BETA9_KUBECONFIG=str(lab.kubeconfig),
        **settings,
    )
    wait_for("eight free", lambda: gpu_counts(agent) == (8, 8))
    lab.gateway.set_demand("gpu", 1)
    wait_for("a worker holds one", lambda: gpu_counts(agent) == (8, 7))
    began_s = time.monotonic()
    script.write_text("lost:3")
    wait_for("one fewer is free", lambda: gpu_counts(agent) == (8, 6))
    noticed_s = time.monotonic() - began_s
    wait_for("the gateway hears of it", lambda: registered_gpus(lab, agent) == (8, 6))
    lost = [gpu for gpu in agent.status()["gpus"] if not gpu["healthy"]]
    assert [gpu["uuid"] for gpu in lost] == [agent.status()["gpus"][3]["uuid"]]
    assert any(lost[0]["uuid"] in text for text in agent.status()["degraded"])
    report(
        f"free 7 → 6 after {noticed_s:.1f} s with one worker running, gpu_count stays 8: {lost[0]['reason']}",
        noticed_s,
    )


def gpu_counts(agent: AgentProcess) -> tuple[int, int]:
    capacity = agent.status()["capacity"]
    return capacity["gpu_count"], capacity["free_gpu_count"]


def registered_gpus(lab: Lab, agent: AgentProcess) -> tuple[int, int]:
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
    lab: Lab, report: Report, what: str, fault: dict[str, object], healed: dict[str, object]
) -> None:
    lab.kubernetes.set_node(gpus=2)
    agent = lab.ready_agent(TUNING, BETA9_KEEPALIVE_INTERVAL="1", BETA9_KUBECONFIG=str(lab.kubeconfig))
    wait_for("two GPUs", lambda: gpu_counts(agent) == (2, 2))
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
    report(
        f"{what}: nothing offered after {withdrawn_s:.1f} s with a grace of {GRACE_S} s "
        f"(default: {Policy().node_grace_s:g} s), offered again {back_s:.1f} s after healing",
        withdrawn_s,
    )
