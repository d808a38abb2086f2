"""Resource leaks: over months, whatever one reconnect leaves behind adds up thousands of times."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.agent_process import AgentProcess, children_of
from tests.integration.fault_report import Report
from tests.integration.lab import Lab
from tests.integration.polling import wait_for

RECONNECTS = 200
WARM_UP = 10
"""Reconnects before the first count: they load what later ones reuse."""
IN_PROGRESS = 4
"""Allowed difference: threads and descriptors of a probe, timer or status request in progress while counting."""


@dataclass(frozen=True)
class Resources:
    """The resources of the agent's process at one time."""

    threads: int
    descriptors: int
    children: int
    memory_kib: int


def resources_of(agent: AgentProcess) -> Resources:
    process = Path(f"/proc/{agent.pid}")
    memory = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
    return Resources(
        threads=len(list((process / "task").iterdir())),
        descriptors=len(list((process / "fd").iterdir())),
        children=len(children_of(agent.pid)),
        memory_kib=int(memory.split()[1]),
    )


def reconnect(agent: AgentProcess) -> None:
    """Kill the ssh child that carries the keepalives and wait until the next one is up."""
    before = agent.status()["tunnel"]["generation"]
    os.kill(agent.ssh_pids()["api"], signal.SIGKILL)

    def is_new() -> bool:
        tunnel = agent.status().get("tunnel", {})
        return bool(tunnel.get("up") and tunnel["generation"] > before)

    wait_for("a new tunnel", is_new)


@pytest.mark.fault(1)
@pytest.mark.timeout(600)
def test_fault_01_two_hundred_reconnects_leak_nothing(lab: Lab, report: Report) -> None:
    """Scaled: almost no pause between attempts (1 to 4 s)."""
    agent = lab.ready_agent({"backoff_base_s": 0.01, "outage_cap_s": 0.02})
    for _ in range(WARM_UP):
        reconnect(agent)
    agent.wait_back()
    before = resources_of(agent)
    began_s = time.monotonic()
    for _ in range(RECONNECTS):
        reconnect(agent)
    agent.wait_back()
    took_s = time.monotonic() - began_s

    def is_as_before() -> Resources | None:
        now = resources_of(agent)
        more = max(now.threads - before.threads, now.descriptors - before.descriptors)
        return now if more <= IN_PROGRESS and now.children == before.children else None

    after = wait_for(f"no more than {before}", is_as_before)
    assert after.memory_kib - before.memory_kib < 10 * 1024
    assert agent.status()["registration"]["times"] == 1
    report(
        f"200 reconnects in {took_s:.0f} s; threads {before.threads} → {after.threads}, descriptors "
        f"{before.descriptors} → {after.descriptors}, memory {before.memory_kib} → {after.memory_kib} KiB",
        took_s,
    )
