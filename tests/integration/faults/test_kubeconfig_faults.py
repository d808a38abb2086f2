"""Fault row 79: the files with the credentials for k3s appear, change and disappear while the agent runs."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.core.policy import Policy
from tests.integration.agent_process import AgentProcess
from tests.integration.bounds import within
from tests.integration.fault_report import Report
from tests.integration.lab import Lab
from tests.integration.polling import wait_for

NOTICED_S = 10.0
"""The row's limit."""


@pytest.fixture
def k3s_yaml(tmp_path: Path) -> Path:
    """Where k3s will write its kubeconfig; neither file nor directory exists yet."""
    return tmp_path / "rancher" / "k3s.yaml"


def write(path: Path, text: str) -> None:
    """Write a file as k3s does: in place, readable by its owner only."""
    path.parent.mkdir(exist_ok=True)
    path.touch(0o600)
    path.write_text(text)


def seconds_until(what: str, condition: Callable[[], Any]) -> float:
    """Wait until the condition holds within the row's limit; return the seconds that took."""
    began_s = time.monotonic()
    wait_for(what, condition, within(NOTICED_S))
    return time.monotonic() - began_s


def degraded(agent: AgentProcess, text: str) -> bool:
    return any(text in each for each in agent.status().get("degraded", ()))


def registered_token(lab: Lab, agent: AgentProcess) -> str:
    machine = lab.gateway.machine(agent.machine_id)
    assert machine is not None
    return str(machine["token"])


def withdrawn(lab: Lab, agent: AgentProcess) -> bool:
    return not lab.gateway.would_place(agent.machine_id)[0]


@pytest.mark.fault(79)
def test_fault_79_the_kubeconfig_appears_changes_and_goes(lab: Lab, report: Report, k3s_yaml: Path) -> None:
    agent = lab.agent(BETA9_K3S_TOKEN_FILE="", BETA9_KUBECONFIG=str(k3s_yaml), BETA9_KEEPALIVE_INTERVAL="1")
    agent.start()
    wait_for("the reason names the missing file", lambda: str(k3s_yaml) in _reason(agent))

    write(k3s_yaml, lab.kubeconfig.read_text())
    appeared_s = seconds_until("capacity is offered after it appeared", agent.is_back)
    first = registered_token(lab, agent)

    lab.reinstall_kubernetes()
    wait_for("the previous cluster's token is refused", lambda: withdrawn(lab, agent))
    write(k3s_yaml, lab.kubeconfig.read_text())
    changed_s = seconds_until("capacity is offered for the other cluster", agent.is_back)
    second = registered_token(lab, agent)
    assert second != first
    lab.gateway.set_demand("gpu", 1)
    wait_for("the gateway uses the new token", lab.kubernetes.jobs)
    lab.gateway.set_demand("gpu", 0)

    k3s_yaml.unlink()
    missed_s = seconds_until("the missing file in /status", lambda: degraded(agent, str(k3s_yaml)))
    assert agent.is_back(), "the offer ended although the gateway's token is still valid"
    lab.kubernetes.revoke_granted()
    withdrawn_s = seconds_until("nothing is offered without a token", lambda: withdrawn(lab, agent))

    write(k3s_yaml, lab.kubeconfig.read_text())
    back_s = seconds_until("capacity is offered after it is back", agent.is_back)
    assert registered_token(lab, agent) != second
    assert not degraded(agent, str(k3s_yaml))
    longest_s = max(appeared_s, changed_s, missed_s, withdrawn_s, back_s)
    report(
        f"offering {appeared_s:.1f} s after it appeared, {changed_s:.1f} s after it named another cluster; reported "
        f"missing after {missed_s:.1f} s; without a token nothing offered after {withdrawn_s:.1f} s, then again after "
        f"{back_s:.1f} s",
        longest_s,
    )


def _reason(agent: AgentProcess) -> str:
    return str(agent.status().get("kubernetes", {}).get("reason"))


def test_a_kubeconfig_that_appears_later_serves_to_empty_the_node(lab: Lab, k3s_yaml: Path) -> None:
    agent = lab.ready_agent(
        {"node_interval_s": 1}, BETA9_KUBECONFIG=str(k3s_yaml), BETA9_KEEPALIVE_INTERVAL="1"
    )
    lab.gateway.set_demand("gpu", 1)
    wait_for("a worker", lab.kubernetes.pods)
    assert agent.status()["kubernetes"]["node"] is None
    write(k3s_yaml, lab.kubeconfig.read_text())
    seconds_until(
        "the worker is seen", lambda: (agent.status()["kubernetes"]["node"] or {}).get("worker_count")
    )
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    assert len(lab.kubernetes.terminations()) >= 1
    assert lab.kubernetes.node()["spec"].get("unschedulable") is True


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_a_token_file_that_changes_is_told_to_the_gateway(lab: Lab, tmp_path: Path, mode: str) -> None:
    file = tmp_path / "token_for_k3s"
    write(file, lab.kubernetes.grant())
    agent = lab.agent(BETA9_K3S=mode, BETA9_K3S_TOKEN_FILE=str(file), BETA9_KEEPALIVE_INTERVAL="1").start()
    wait_for("offered", lambda: lab.gateway.would_place(agent.machine_id)[0])
    renewed = lab.kubernetes.grant()
    write(file, renewed)
    seconds_until("the gateway has the new token", lambda: registered_token(lab, agent) == renewed)
    file.unlink()
    seconds_until("the missing file in /status", lambda: degraded(agent, file.name))
    assert lab.gateway.would_place(agent.machine_id)[0], "the offer ended although the token is still valid"


def test_a_state_directory_that_is_removed_keeps_nobody_from_reconnecting(lab: Lab) -> None:
    state = Path(tempfile.mkdtemp(prefix="b9")) / "state"  # short enough to hold the sockets
    lab.stack.callback(shutil.rmtree, state.parent)
    agent = lab.ready_agent({"backoff_base_s": 0.2}, BETA9_STATE_DIR=str(state))
    shutil.rmtree(state)
    for pid in agent.ssh_pids().values():
        os.kill(pid, signal.SIGKILL)
    wait_for("the tunnel is replaced", lambda: agent.status()["tunnel"]["restarts"] > 0)
    agent.wait_back()
    assert state.stat().st_mode & 0o777 == 0o700


def test_looking_for_a_k3s_that_is_not_there_yet_leaves_time_to_take_it_up() -> None:
    policy = Policy()
    assert max(policy.kube_look_s, policy.kube_interval_s) + policy.kube_timeout_s < NOTICED_S
