"""A machine is up for months: what a reconnect leaves behind, it leaves behind thousands of times."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.lab import AgentProcess, Lab, children_of, wait_for

RECONNECTS = 200
WARM_UP = 10
"""The first ones load what later ones use again."""
PASSING = 4
"""Threads and descriptors of a probe, a timer or a status request that happen to be under way when counted."""


@dataclass(frozen=True)
class Held:
    """What the agent's process holds at one moment."""

    threads: int
    descriptors: int
    children: int
    memory_kib: int


def held_by(agent: AgentProcess) -> Held:
    process = Path(f"/proc/{agent.pid}")
    memory = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
    return Held(
        threads=len(list((process / "task").iterdir())),
        descriptors=len(list((process / "fd").iterdir())),
        children=len(children_of(agent.pid)),
        memory_kib=int(memory.split()[1]),
    )


def reconnect(agent: AgentProcess) -> None:
    """Kill the ssh child that carries the keepalives and wait for the next one to be up."""
    before = agent.status()["tunnel"]["generation"]
    os.kill(agent.ssh_pids()["api"], signal.SIGKILL)

    def is_new() -> bool:
        tunnel = agent.status().get("tunnel", {})
        return bool(tunnel.get("up") and tunnel["generation"] > before)

    wait_for("a new tunnel", is_new)


@pytest.mark.fault(1)
@pytest.mark.timeout(600)
def test_fault_01_two_hundred_reconnects_leak_nothing(
    lab: Lab, record_property: Callable[[str, object], None]
) -> None:
    """Scaled: hardly a pause between attempts (1 to 4 s)."""
    agent = lab.ready_agent({"backoff_base_s": 0.01, "outage_cap_s": 0.02})
    for _ in range(WARM_UP):
        reconnect(agent)
    agent.wait_back()
    before = held_by(agent)
    began_s = time.monotonic()
    for _ in range(RECONNECTS):
        reconnect(agent)
    agent.wait_back()
    took_s = time.monotonic() - began_s

    def is_as_before() -> Held | None:
        now = held_by(agent)
        more = max(now.threads - before.threads, now.descriptors - before.descriptors)
        return now if more <= PASSING and now.children == before.children else None

    after = wait_for(f"as few as {before}", is_as_before)
    assert after.memory_kib - before.memory_kib < 10 * 1024
    assert agent.status()["registration"]["times"] == 1
    record_property("expected", "back each time; no thread, child or descriptor more after 200 reconnects")
    record_property("happened", f"200 reconnects in {took_s:.0f} s; before {before}, after {after}")
    record_property("seconds", round(took_s, 1))
