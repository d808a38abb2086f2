"""`beta9-worker doctor` with a real sshd and the embedded gateway, when all is well and when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.process.run import Completed, run
from tests import ROOT
from tests.integration.agent_process import AgentProcess, children_of
from tests.integration.lab import Lab, laboratory

LIMIT_S = 100


@dataclass
class Diagnosis:
    """The result of one run of the doctor."""

    completed: Completed
    checks: dict[str, dict[str, Any]]

    def verdict(self, *names: str) -> list[str]:
        return [self.checks[name]["verdict"] for name in names]

    def failed(self) -> set[str]:
        return {name for name, check in self.checks.items() if check["verdict"] == "fail"}


@pytest.fixture(scope="module")
def outbound() -> Iterator[str]:
    """A listener on loopback that stands for a host on the internet."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def diagnose(agent: AgentProcess, outbound: str, **settings: str) -> Diagnosis:
    environment = {name: value for name, value in (agent.environment | settings).items() if value}
    # Do not query this machine's Docker: its state must not influence the tests.
    environment["DOCKER_HOST"] = "unix:///nowhere/docker.sock"
    argv = [
        sys.executable,
        "-m",
        "agent",
        "doctor",
        "--json",
        "--env-file",
        os.devnull,
        "--outbound",
        outbound,
    ]
    completed = run(argv, LIMIT_S, env=environment, ok_codes=(0, 1))
    output = json.loads(completed.stdout)
    checks = {check["name"]: check for check in output["checks"]}
    assert output["ok"] is (completed.code == 0)
    assert all(check["took_s"] < 11 for check in checks.values()), checks
    assert all(check["fix"] for check in checks.values() if check["verdict"] in {"warn", "fail"}), checks
    files = [agent.environment.get(name) for name in ("BETA9_TOKEN_FILE", "BETA9_K3S_TOKEN_FILE")]
    secrets = [Path(name).read_text() for name in files if name is not None]
    secrets += [Path(environment["BETA9_SSH_KEY_FILE"]).read_text().splitlines()[2]]
    assert not [each for each in secrets if each.strip() in completed.stdout + completed.stderr]
    return Diagnosis(completed, checks)


TUNNEL_CHECKS = ("dns", "route to the ssh host", "host key", "login", "forward", "gateway health")
ALL_CHECKS = (
    *TUNNEL_CHECKS,
    "ssh session channel",
    "keepalive route",
    "token accepted",
    "k3s",
    "k3s login",
    "reverse path",
)


def test_where_all_is_well_nothing_of_the_tunnel_fails(lab: Lab, outbound: str) -> None:
    agent = lab.agent()
    diagnosis = diagnose(agent, outbound)
    assert diagnosis.verdict(*ALL_CHECKS, "clock", "outbound 443") == ["ok"] * (len(ALL_CHECKS) + 2), (
        diagnosis.checks
    )
    assert diagnosis.verdict("pool", "agent") == ["skip", "skip"]
    # It leaves nothing behind: no registered machine, no state, no process.
    assert lab.gateway.status(agent.machine_id) == "pending"
    assert not Path(agent.environment["BETA9_STATE_DIR"]).exists()
    assert not [
        pid for pid in children_of(os.getpid()) if b"doctor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_a_running_agent_is_asked_and_not_disturbed(lab: Lab, outbound: str) -> None:
    agent = lab.ready_agent()
    before = agent.status()
    ssh = agent.ssh_pids()
    diagnosis = diagnose(agent, outbound)
    assert diagnosis.verdict("agent", "pool", "reverse path", "token accepted") == ["ok"] * 4, (
        diagnosis.checks
    )
    after = agent.status()
    assert agent.ssh_pids() == ssh
    assert after["registration"]["times"] == before["registration"]["times"]
    assert after["tunnel"]["restarts"] == before["tunnel"]["restarts"]


def test_an_agent_that_hangs_is_told_from_one_that_does_not_run(lab: Lab, outbound: str) -> None:
    agent = lab.ready_agent()
    agent.signal(signal.SIGSTOP)
    diagnosis = diagnose(agent, outbound)
    agent.signal(signal.SIGCONT)
    assert "hangs" in diagnosis.checks["agent"]["seen"]
    assert "agent" in diagnosis.failed()


def test_a_wrong_token_is_named_and_the_others_still_run(lab: Lab, outbound: str) -> None:
    agent = lab.agent()
    Path(agent.environment["BETA9_TOKEN_FILE"]).write_text("a-token-that-nobody-has-ever-given-out")
    diagnosis = diagnose(agent, outbound)
    assert diagnosis.completed.code == 1
    assert "token accepted" in diagnosis.failed()
    assert "401" in diagnosis.checks["token accepted"]["seen"]
    assert diagnosis.verdict(*TUNNEL_CHECKS, "keepalive route", "reverse path") == ["ok"] * (
        len(TUNNEL_CHECKS) + 2
    ), diagnosis.checks


def test_a_broken_tunnel_is_named_and_the_others_still_run(lab: Lab, outbound: str) -> None:
    agent = lab.agent()
    lab.sshd.stop()
    diagnosis = diagnose(agent, outbound)
    assert diagnosis.completed.code == 1
    assert "route to the ssh host" in diagnosis.failed()
    assert diagnosis.verdict("dns", "k3s", "k3s login", "token setting") == ["ok"] * 4
    later = ("host key", "login", "forward", "token accepted", "reverse path")
    assert diagnosis.verdict(*later) == ["skip"] * len(later)
    assert "not tried" in diagnosis.checks["login"]["seen"]


def test_a_key_that_sshd_does_not_know_is_named(lab: Lab, outbound: str) -> None:
    agent = lab.agent()
    stranger = lab.sshd.make_key("stranger")
    diagnosis = diagnose(agent, outbound, BETA9_SSH_KEY_FILE=str(stranger))
    assert diagnosis.failed() & set(ALL_CHECKS) == {"login"}
    assert "authorize" in diagnosis.checks["login"]["fix"]


def test_a_host_key_that_differs_is_named(lab: Lab, outbound: str) -> None:
    agent = lab.agent()
    wrong = "SHA256:" + "A" * 43
    diagnosis = diagnose(agent, outbound, BETA9_SSH_KNOWN_HOSTS_FILE="", BETA9_SSH_HOST_KEY_FINGERPRINT=wrong)
    assert diagnosis.failed() & set(ALL_CHECKS) == {"host key"}
    assert lab.sshd.fingerprint in diagnosis.checks["host key"]["seen"]


def test_without_a_token_the_kubeconfig_is_tried_and_the_node_looked_at(lab: Lab, outbound: str) -> None:
    agent = lab.agent()
    settings = {"BETA9_K3S_TOKEN_FILE": "", "BETA9_KUBECONFIG": str(lab.kubeconfig)}
    diagnosis = diagnose(agent, outbound, **settings)
    assert diagnosis.verdict("k3s login", "k3s node", "reverse path") == ["ok"] * 3, diagnosis.checks
    lab.kubernetes.set_node(unschedulable=True)
    diagnosis = diagnose(agent, outbound, **settings)
    assert diagnosis.failed() & {"k3s login", "k3s node", "reverse path"} == {"k3s node"}
    assert "cordoned" in diagnosis.checks["k3s node"]["seen"]


def test_gateway_ports_no_is_named_with_the_line_to_change(tmp_path: Path, outbound: str) -> None:
    with laboratory(tmp_path, sshd_options={"GatewayPorts": "no"}) as lab:
        diagnosis = diagnose(lab.agent(), outbound)
    assert diagnosis.completed.code == 1
    assert diagnosis.failed() & set(ALL_CHECKS) == {"reverse path"}
    assert "GatewayPorts clientspecified" in diagnosis.checks["reverse path"]["fix"]


def test_an_upstream_gateway_without_the_route_is_told_from_a_bad_token(lab: Lab, outbound: str) -> None:
    lab.gateway.set_fault("status", "keepalive", status=404, body='{"message":"Not Found"}')
    diagnosis = diagnose(lab.agent(), outbound)
    assert diagnosis.failed() & set(ALL_CHECKS) == {"keepalive route"}
    assert "upstream" in diagnosis.checks["keepalive route"]["seen"]
    assert diagnosis.verdict("token accepted") == ["skip"]


def test_a_target_that_the_key_may_not_open_is_named(lab: Lab, outbound: str) -> None:
    diagnosis = diagnose(lab.agent(), outbound, BETA9_SSH_TARGET="127.0.0.1:1")
    assert "forward" in diagnosis.failed()
    assert "permitopen" in diagnosis.checks["forward"]["seen"]


def test_on_a_bare_host_it_says_what_is_missing(tmp_path: Path, outbound: str) -> None:
    """Without any settings or programs on the PATH it still runs every check and prints readable text."""
    environment = {"HOME": str(tmp_path), "PATH": str(tmp_path), "BETA9_STATUS_ADDR": "127.0.0.1:1"}
    environment |= {"DOCKER_HOST": "unix:///nowhere/docker.sock", "BETA9_SSH_HOST": "127.0.0.1"}
    argv = [sys.executable, "-m", "agent", "doctor", "--env-file", os.devnull, "--outbound", outbound]
    root = str(ROOT)
    done = run(argv, LIMIT_S, env=environment | {"PYTHONPATH": root}, ok_codes=(1,))
    lines = done.stdout.splitlines()
    assert any(line.startswith("  FAIL  settings") and "BETA9_TOKEN" in line for line in lines), done.stdout
    assert any(line.startswith("  FAIL  ssh client") for line in lines), done.stdout
    assert any(line.startswith("  ok    python") for line in lines)
    assert "checks failed: " in lines[-1]
    assert "settings" in lines[-1]
