"""What fault tests of the tunnel look at: which children there are, whether they were replaced, and when."""

from __future__ import annotations

import time
from typing import Any

from tests.integration.lab import AgentProcess, Lab, wait_for


def generations(agent: AgentProcess) -> dict[str, int]:
    """How many children there have been, by purpose."""
    tunnel = agent.status()["tunnel"]
    return {"api": tunnel["forward"]["generation"], "reverse": tunnel["reverse"]["generation"]}


def wait_replaced(agent: AgentProcess, before: dict[str, int]) -> None:
    """Wait until every child named in `before` is another one and the agent is back."""

    def replaced() -> bool:
        now = generations(agent)
        return all(now[purpose] > was for purpose, was in before.items()) and agent.is_back()

    wait_for(f"another child than {before}, and back", replaced)


def watch_quiet(agent: AgentProcess, seconds: float) -> None:
    """For so long no child is replaced and the offer stands."""
    before = agent.ssh_pids()
    restarts = agent.status()["counters"]["tunnel_restarts"]
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        status = agent.status()
        assert status["counters"]["tunnel_restarts"] == restarts, status["tunnel"]
        assert agent.is_back(), status
        time.sleep(0.2)
    assert agent.ssh_pids() == before


def reason(agent: AgentProcess, way: str = "forward") -> str:
    """What /status says about one way of the tunnel; "" when there is nothing to say."""
    return str(agent.status().get("tunnel", {}).get(way, {}).get("reason") or "")


def known_at(lab: Lab, port: int) -> dict[str, Any]:
    """Settings by which an agent reaches the same sshd at another port (a second one, or a proxy's)."""
    known = lab.directory / f"known_hosts_{port}"
    known.write_text(lab.sshd.known_hosts.replace(f":{lab.sshd.port}", f":{port}"))
    return {"BETA9_SSH_PORT": str(port), "BETA9_SSH_KNOWN_HOSTS_FILE": str(known)}
