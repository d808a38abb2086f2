"""A machine in a tailnet: joined by its agent, ready, cut off in several ways, recovered; and what it reports."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.process.run import run
from tests.integration.faults.secret_search import found_in
from tests.integration.faults.test_input_faults import of_files, of_processes
from tests.integration.lab import AgentProcess, Lab, wait_for
from tests.tailnet.conftest import KUBERNETES_PORT
from tests.tailnet.mesh import TAILNET, Mesh

pytestmark = pytest.mark.tailnet

TUNING = {"join_base_s": 6.0, "join_cap_s": 10.0, "tailnet_interval_s": 0.5, "tailnet_peers_s": 1.0}
"""Retries a refused login within seconds and polls often. A retry must not come too soon: it ends the login in
progress, which may take seconds on a slow machine."""

LONG_S = 180.0
"""Logins, starting daemons and relays take long when four programs share a busy core."""


def machine(lab: Lab, tailnet: Mesh, key: Path | None = None, **more: str) -> AgentProcess:
    """Return the machine's agent, not started yet, with a user's settings for a connection over the tailnet."""
    return lab.agent(
        TUNING,
        BETA9_CONNECTION="tailscale",
        BETA9_GATEWAY_HOST=f"far.{TAILNET}",
        BETA9_GATEWAY_PORT=str(lab.gateway_port),
        BETA9_TAILSCALE_SOCKET=str(tailnet.near.socket),
        BETA9_TAILSCALE_URL=tailnet.url,
        BETA9_TAILSCALE_AUTH_FILE=str(key or ""),
        BETA9_K3S_API=f"127.0.0.1:{KUBERNETES_PORT}",
        **{
            f"BETA9_SSH_{name}": ""
            for name in ("HOST", "PORT", "USER", "KEY_FILE", "KNOWN_HOSTS_FILE", "TARGET")
        },
        **more,
    )


def key_file(lab: Lab, key: str) -> Path:
    path = lab.directory / "tailscale_auth"
    path.touch(0o600)
    path.write_text(key + "\n")
    return path


@pytest.fixture
def joined(lab: Lab, tailnet: Mesh) -> Mesh:
    """The tailnet, with the machine already logged in manually."""
    if tailnet.near.state != "Running":
        tailnet.near.join(key_file(lab, tailnet.key()), tailnet.url)
    return tailnet


def wait_reason(agent: AgentProcess, text: str) -> dict[str, Any]:
    """Wait until the reason under `tailnet` in `/status` contains `text`, and return the whole status."""

    def status_with_reason() -> dict[str, Any] | None:
        status = agent.status()
        reason = (status.get("tailnet") or {}).get("reason") or ""
        return status if text in reason else None

    try:
        return wait_for(f"'{text}' in /status", status_with_reason, LONG_S)
    except AssertionError as error:
        raise AssertionError(f"{error}; /status {agent.status()}; log {agent.lines[-10:]}") from error


def doctor(agent: AgentProcess) -> dict[str, dict[str, Any]]:
    argv = [*agent.place.prefix, sys.executable, "-m", "agent", "doctor", "--json", "--env-file", os.devnull]
    done = run([*argv, "--outbound", "127.0.0.1:1"], timeout_s=120, env=agent.environment, ok_codes=(0, 1))
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_a_machine_joins_with_its_key_becomes_ready_and_gets_work(lab: Lab, tailnet: Mesh) -> None:
    tailnet.near.tailscale("logout")
    tailnet.forget("near")
    key = tailnet.key()
    agent = machine(lab, tailnet, key_file(lab, key), BETA9_LOG_LEVEL="debug").start()
    agent.wait_back(LONG_S)
    assert tailnet.near.state == "Running"
    entry = lab.gateway.machine(agent.machine_id)
    assert entry is not None
    assert entry["hostname"] == f"near.{TAILNET}"
    status = agent.status()
    assert status["tailnet"]["up"]
    assert status["tailnet"]["address"] == tailnet.near.address
    assert status["tunnel"]["reverse"]["address"] == tailnet.near.address
    assert status["registration"]["times"] == 1
    # The agent's login keeps the administrator's preferences.
    assert not json.loads(tailnet.near.tailscale("debug", "prefs"))["CorpDNS"]

    lab.gateway.set_demand("gpu", 1)
    placed = wait_for("a worker placed over the tailnet", lambda: lab.gateway.workers("gpu"))
    assert placed[0]["machine_id"] == agent.machine_id

    checks = doctor(agent)
    for name in ("tailscaled", "tailnet login", "tailnet key", "tailnet address", "tailnet peer", "forward"):
        assert checks[name]["verdict"] == "ok", checks[name]

    assert any("tailnet_login" in line for line in agent.lines)
    outputs = _outputs(agent, tailnet, checks)
    assert found_in({"itself": f"a {key} b"}, [key]), "the search itself does not work"
    assert not found_in(outputs, [key])


def _outputs(agent: AgentProcess, tailnet: Mesh, checks: dict[str, Any]) -> dict[str, str]:
    """Return everything in which the auth key could appear, by name."""
    return {
        "agent's log": "\n".join(agent.lines),
        "tailscaled's log": "\n".join(tailnet.near.lines),
        "doctor": json.dumps(checks),
        **{path: json.dumps(agent.get(path)[1]) for path in ("/status", "/metrics")},
        **of_processes(agent),
        **of_files(Path(agent.environment["BETA9_STATE_DIR"])),
        "all command lines": "\n".join(
            path.read_bytes().decode(errors="replace")
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if path.exists()
        ),
    }


@pytest.mark.parametrize("lab_options", [{"gateway_options": ("--direct-redis-host", "")}])
def test_a_gateway_that_appends_the_tailnet_gets_the_short_name(lab: Lab, joined: Mesh) -> None:
    agent = machine(lab, joined).start()
    agent.wait_back(LONG_S)
    entry = lab.gateway.machine(agent.machine_id)
    assert entry is not None
    assert entry["hostname"] == "near.beta9.tailnet.example"
    assert [each["body"]["hostname"] for each in lab.gateway.requests("register")] == [
        f"near.{TAILNET}",
        "near",
    ]
    lab.gateway.set_demand("gpu", 1)
    wait_for("a worker placed over the tailnet", lambda: lab.gateway.workers("gpu"))
    agent.signal(signal.SIGUSR1)
    assert agent.wait_exit() == 0
    agent.start().wait_back(LONG_S)
    names = [each["body"]["hostname"] for each in lab.gateway.requests("register")]
    assert set(names[2:]) == {"near"}, "the agent must remember the name that this gateway accepts"


def test_a_restarted_daemon_causes_no_new_registration(lab: Lab, joined: Mesh) -> None:
    agent = machine(lab, joined).start()
    agent.wait_back(LONG_S)
    joined.near.kill()
    status = wait_reason(agent, "tailscaled does not answer")
    assert status["state"] in {"BACKOFF", "CONNECTING"}
    assert "does not answer" in status["tunnel"]["forward"]["reason"]
    checks = doctor(agent)
    assert checks["tailscaled"]["verdict"] == "fail"
    assert checks["tailnet login"]["verdict"] == "skip"
    joined.near.start()
    agent.wait_back(LONG_S)
    assert agent.status()["registration"]["times"] == 1
    assert [line for line in agent.events("tunnel_api_down") if line["reason"] == "tailscaled"]


def test_a_frozen_daemon_is_noticed_and_recovers(lab: Lab, joined: Mesh) -> None:
    agent = machine(lab, joined).start()
    agent.wait_back(LONG_S)
    assert joined.near.child is not None
    joined.near.child.signal(signal.SIGSTOP)
    try:
        wait_reason(agent, "no answer at")
    finally:
        joined.near.child.signal(signal.SIGCONT)
    agent.wait_back(LONG_S)


def test_tailscale_down_is_respected_and_reported(lab: Lab, joined: Mesh) -> None:
    agent = machine(lab, joined, key_file(lab, joined.key())).start()
    agent.wait_back(LONG_S)
    joined.near.tailscale("down")
    wait_reason(agent, "tailscale is down on this machine")
    assert joined.near.state == "Stopped"
    assert not agent.events("tailnet_login")
    joined.near.tailscale("up")
    agent.wait_back(LONG_S)


def test_an_expired_key_is_reported_and_a_new_auth_key_works_without_a_restart(
    lab: Lab, joined: Mesh
) -> None:
    key = key_file(lab, "0123456789abcdef0123456789abcdef0123456789abcdef")
    agent = machine(lab, joined, key).start()
    agent.wait_back(LONG_S)
    joined.expire("near")
    status = wait_reason(agent, "this machine's key in the tailnet has expired")
    assert status["tailnet"]["state"] == "key_expired"
    assert status["state"] in {"BACKOFF", "CONNECTING"}
    assert doctor(agent)["tailnet login"]["verdict"] == "fail"
    wait_for("the wrong key was tried", lambda: len(agent.events("tailnet_login")) >= 2, LONG_S)
    wait_reason(agent, "http 401")
    key.write_text(joined.key() + "\n")
    agent.wait_back(LONG_S)
    assert joined.near.state == "Running"
    assert agent.status()["registration"]["times"] == 1


def test_a_machine_without_login_and_key_reports_what_to_do(lab: Lab, joined: Mesh) -> None:
    joined.near.tailscale("logout")
    agent = machine(lab, joined).start()
    wait_reason(agent, "this machine is not logged in to its tailnet")
    wait_reason(agent, "give a key by BETA9_TAILSCALE_AUTH_FILE")
    assert doctor(agent)["tailnet login"]["verdict"] == "fail"
    joined.near.join(key_file(lab, joined.key()), joined.url)
    agent.wait_back(LONG_S)


def test_without_udp_it_uses_the_relay_and_reports_it(lab: Lab, joined: Mesh) -> None:
    with joined.without_udp():
        # The daemon keeps a direct path for a while, so restart it.
        joined.near.kill()
        joined.near.start()
        agent = machine(lab, joined).start()
        agent.wait_back(LONG_S)

        def is_relayed() -> bool:
            peer = (agent.status().get("tailnet") or {}).get("peer") or {}
            return peer.get("direct") is False and peer.get("relay") == "local"

        wait_for("the relay in /status", is_relayed, LONG_S)
        assert doctor(agent)["tailnet peer"]["verdict"] == "warn"
    wait_for(
        "the direct path", lambda: ((agent.status().get("tailnet") or {}).get("peer") or {}).get("direct")
    )
    assert agent.is_back()


def test_a_gateway_host_that_left_the_tailnet_is_named(lab: Lab, joined: Mesh) -> None:
    agent = machine(lab, joined).start()
    agent.wait_back(LONG_S)
    joined.far.kill()
    try:
        reason = wait_for(
            "why the gateway does not answer",
            lambda: next(
                (
                    line["text"]
                    for line in agent.events("tunnel_api_down")
                    if f"far.{TAILNET} is not connected to the tailnet" in line["text"]
                ),
                None,
            ),
        )
        assert "no answer" in reason
    finally:
        joined.far.start()
    agent.wait_back(LONG_S)
