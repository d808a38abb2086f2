"""Fault row 79: the files with the logins for k3s appear, change and go while the agent runs."""

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
from tests.integration.bounds import within
from tests.integration.lab import AgentProcess, Lab, wait_for
from tests.integration.told import Tell

TAKEN_UP_S = 10.0
"""The row's own bound."""


@pytest.fixture
def k3s_yaml(tmp_path: Path) -> Path:
    """Where k3s' kubeconfig is going to be: nothing is there yet, nor is the directory."""
    return tmp_path / "rancher" / "k3s.yaml"


def write(path: Path, text: str) -> None:
    """As k3s does: in place, for its owner alone."""
    path.parent.mkdir(exist_ok=True)
    path.touch(0o600)
    path.write_text(text)


def taken_up(what: str, condition: Callable[[], Any]) -> float:
    """Seconds until the condition holds."""
    began_s = time.monotonic()
    wait_for(what, condition, within(TAKEN_UP_S))
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
def test_fault_79_the_kubeconfig_appears_changes_and_goes(lab: Lab, tell: Tell, k3s_yaml: Path) -> None:
    agent = lab.agent(BETA9_K3S_TOKEN_FILE="", BETA9_KUBECONFIG=str(k3s_yaml), BETA9_KEEPALIVE_INTERVAL="1")
    agent.start()
    wait_for("it says what it waits for", lambda: str(k3s_yaml) in _reason(agent))

    write(k3s_yaml, lab.kubeconfig.read_text())
    appeared_s = taken_up("it appeared, everything is offered", agent.is_back)
    first = registered_token(lab, agent)

    lab.install_kubernetes_anew()
    wait_for("the token of the k3s before is refused", lambda: withdrawn(lab, agent))
    write(k3s_yaml, lab.kubeconfig.read_text())
    changed_s = taken_up("another cluster, everything is offered", agent.is_back)
    second = registered_token(lab, agent)
    assert second != first
    lab.gateway.set_demand("gpu", 1)
    wait_for("the gateway's new token serves it", lab.kubernetes.jobs)
    lab.gateway.set_demand("gpu", 0)

    k3s_yaml.unlink()
    missed_s = taken_up("it is missed", lambda: degraded(agent, str(k3s_yaml)))
    assert agent.is_back(), "the token that the gateway has is good all the same"
    lab.kubernetes.revoke_granted()
    gone_s = taken_up("no token is left, nothing is offered", lambda: withdrawn(lab, agent))

    write(k3s_yaml, lab.kubeconfig.read_text())
    back_s = taken_up("it is back, everything is offered", agent.is_back)
    assert registered_token(lab, agent) != second
    assert not degraded(agent, str(k3s_yaml))
    longest_s = max(appeared_s, changed_s, missed_s, gone_s, back_s)
    tell(
        f"offering {appeared_s:.1f} s after it appeared, {changed_s:.1f} s after it named another cluster; missed in "
        f"/status after {missed_s:.1f} s; without a token nothing offered after {gone_s:.1f} s, back in {back_s:.1f} s",
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
    taken_up("the worker is seen", lambda: (agent.status()["kubernetes"]["node"] or {}).get("worker_count"))
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    assert len(lab.kubernetes.told()) >= 1
    assert lab.kubernetes.node()["spec"].get("unschedulable") is True


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_a_token_file_that_changes_is_told_to_the_gateway(lab: Lab, tmp_path: Path, mode: str) -> None:
    file = tmp_path / "token_for_k3s"
    write(file, lab.kubernetes.grant())
    agent = lab.agent(BETA9_K3S=mode, BETA9_K3S_TOKEN_FILE=str(file), BETA9_KEEPALIVE_INTERVAL="1").start()
    wait_for("offered", lambda: lab.gateway.would_place(agent.machine_id)[0])
    renewed = lab.kubernetes.grant()
    write(file, renewed)
    taken_up("the gateway has it", lambda: registered_token(lab, agent) == renewed)
    file.unlink()
    taken_up("the file is missed", lambda: degraded(agent, file.name))
    assert lab.gateway.would_place(agent.machine_id)[0], "what it held serves all the same"


def test_a_state_directory_that_is_removed_keeps_nobody_from_reconnecting(lab: Lab) -> None:
    state = Path(tempfile.mkdtemp(prefix="b9")) / "state"  # short, so that the sockets are in it
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
    assert max(policy.kube_look_s, policy.kube_interval_s) + policy.kube_timeout_s < TAKEN_UP_S
