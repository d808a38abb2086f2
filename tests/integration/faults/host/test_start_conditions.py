"""Fault rows 48 and 49: what keeps the agent from starting: no ssh client, or another agent in its directory."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from agent.demo.sshd.program import free_port
from agent.demo.sshd.throwaway import HOST
from tests.integration.agent_process import AgentProcess
from tests.integration.bounds import at_least
from tests.integration.fault_report import Report
from tests.integration.lab import Lab


@pytest.mark.fault(48)
def test_fault_48_no_ssh_binary(lab: Lab, report: Report, tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("setpriv", "sh"):
        found = shutil.which(name)
        assert found
        (bare / name).symlink_to(found)
    agent = lab.agent(PATH=str(bare))
    began_s = time.monotonic()
    assert agent.start().wait_exit() == 78
    took_s = time.monotonic() - began_s
    last = agent.events("ended")[0]
    assert "openssh-client" in last["why"]
    report(f"exit 78: {last['why']}", took_s)


@pytest.mark.fault(49)
def test_fault_49_two_agents_one_state_directory(lab: Lab, report: Report) -> None:
    """Scaled: the second agent waits 4 s for the lock (15 s)."""
    first = lab.ready_agent()

    def second_agent() -> AgentProcess:
        settings = {
            "BETA9_GATEWAY_PORT": str(free_port(HOST)),
            "BETA9_STATUS_ADDR": f"{HOST}:{free_port(HOST)}",
            "BETA9_TUNING": "conflict_s=4",
        }
        return AgentProcess({**first.environment, **settings}, first.machine_id)

    began_s = time.monotonic()
    second = second_agent().start()
    assert second.wait_exit() == 78
    took_s = time.monotonic() - began_s
    message = second.events("stopped")[0]["text"]
    assert f"pid {first.pid})" in message
    assert took_s >= at_least(4)
    assert first.is_back()

    # If the first one is stopping, another one takes its place.
    third = second_agent().start()
    try:
        assert first.stop() == 0
        third.wait_back()
    finally:
        third.stop()
    report(
        f"exit 78 after {took_s:.1f} s naming the first; one that waits while the first stops takes its place",
        took_s,
    )
