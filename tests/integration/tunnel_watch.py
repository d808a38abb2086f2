"""Observing the tunnel in fault tests: its ssh children, and whether they are replaced."""

from __future__ import annotations

import time
from typing import Any

from tests.integration.agent_process import AgentProcess
from tests.integration.lab import Lab
from tests.integration.polling import wait_for


def generations(agent: AgentProcess) -> dict[str, int]:
    """Return how many children have been started so far, by purpose."""
    tunnel = agent.status()["tunnel"]
    return {"api": tunnel["forward"]["generation"], "reverse": tunnel["reverse"]["generation"]}


def wait_replaced(agent: AgentProcess, before: dict[str, int]) -> None:
    """Wait until every child named in `before` has been replaced and the agent is back."""

    def replaced() -> bool:
        now = generations(agent)
        return all(now[purpose] > old for purpose, old in before.items()) and agent.is_back()

    wait_for(f"later children than {before}, and back", replaced)


def watch_undisturbed(agent: AgentProcess, seconds: float) -> None:
    """Assert for `seconds` that no child is replaced and the offer stands."""
    before = agent.ssh_pids()
    restarts = agent.status()["counters"]["tunnel_restarts"]
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        status = agent.status()
        assert status["counters"]["tunnel_restarts"] == restarts, status["tunnel"]
        assert agent.is_back(), status
        time.sleep(0.2)
    assert agent.ssh_pids() == before


def reason(agent: AgentProcess, direction: str = "forward") -> str:
    """Return the reason that /status shows for one direction of the tunnel, or ""."""
    return str(agent.status().get("tunnel", {}).get(direction, {}).get("reason") or "")


def settings_for_port(lab: Lab, port: int) -> dict[str, Any]:
    """Return settings for reaching the same sshd at another port (its second one, or a proxy's)."""
    known = lab.directory / f"known_hosts_{port}"
    known.write_text(lab.sshd.known_hosts.replace(f":{lab.sshd.port}", f":{port}"))
    return {"BETA9_SSH_PORT": str(port), "BETA9_SSH_KNOWN_HOSTS_FILE": str(known)}
