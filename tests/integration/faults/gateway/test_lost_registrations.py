"""Fault rows 32 to 34, 65 and 67: the gateway no longer knows a machine."""

from __future__ import annotations

import itertools
import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from agent.core.events import Event
from agent.core.lifecycle.model import DisplayedState
from agent.core.state import AgentState
from tests.integration.bounds import within
from tests.integration.fault_report import Report
from tests.integration.faults.gateway.short_lease import INTERVAL_S, keepalives, ready_in, registrations
from tests.integration.lab import Lab, laboratory
from tests.integration.polling import wait_for
from tests.unit.simulation import World


@pytest.mark.fault(32)
def test_fault_32_machine_not_found(lab: Lab, report: Report) -> None:
    agent = ready_in(lab)
    before = len(lab.gateway.requests())
    began_s = time.monotonic()
    assert lab.gateway.delete_machine(agent.machine_id) == 1
    wait_for("ready again", lambda: lab.gateway.status(agent.machine_id) == "ready")
    took_s = time.monotonic() - began_s
    agent.wait_back()
    entries = [e for e in lab.gateway.requests()[before:] if e["route"] in {"register", "keepalive"}]
    lost = next(n for n, entry in enumerate(entries) if entry["status"] == 500)
    after = entries[lost + 1 : lost + 3]
    assert [entry["route"] for entry in after] == ["register", "keepalive"]
    assert {entry["machine_id"] for entry in after} == {agent.machine_id}
    gap_s = after[1]["at_s"] - after[0]["at_s"]
    assert registrations(lab) == 2
    report(
        f"one registration, keepalive {gap_s * 1000:.0f} ms after it, same id",
        took_s,
    )


@pytest.mark.fault(33)
def test_fault_33_the_reply_to_register_is_lost(lab: Lab, report: Report) -> None:
    lab.gateway.set_fault("drop_reply", route="register", count=2)
    began_s = time.monotonic()
    agent = ready_in(lab)
    took_s = time.monotonic() - began_s
    entries = lab.gateway.requests("register")
    assert len(entries) >= 2
    assert {entry["machine_id"] for entry in entries} == {agent.machine_id}
    assert len(lab.gateway.machines()) == 1
    report(
        f"{len(entries)} registrations sent, two replies lost, one machine",
        took_s,
    )


@pytest.mark.fault(34)
def test_fault_34_wiped(lab: Lab, report: Report) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    lab.gateway.wipe()
    wait_for("ready again", lambda: lab.gateway.status(agent.machine_id) == "ready")
    took_s = time.monotonic() - began_s
    assert agent.status()["registration"]["times"] == 2
    sent_at_s = [entry["at_s"] for entry in keepalives(lab)]
    assert max(b - a for a, b in itertools.pairwise(sent_at_s)) < within(2 * INTERVAL_S + 1)
    report(f"{took_s:.1f} s at an interval of {INTERVAL_S} s", took_s)


AGENTS = 5
"""Real agents in row 65, as many as two slow cores can run beside other work; fifty more are simulated."""


@pytest.mark.fault(65)
@pytest.mark.timeout(240)
def test_fault_65_redis_restarted(tmp_path: Path, report: Report) -> None:
    """Scaled for the real agents: an interval of 10 s (60 s) and a lease of 60 s. The simulated ones are not scaled."""
    interval_s = 10
    with laboratory(tmp_path, gateway_options=("--ttl", "60")) as lab:
        agents = [lab.agent(BETA9_KEEPALIVE_INTERVAL=str(interval_s)).start() for _ in range(AGENTS)]
        for agent in agents:
            agent.wait_back()
        before = len(lab.gateway.requests())
        began_s = time.monotonic()
        lab.gateway.wipe()
        ids = {agent.machine_id for agent in agents}
        wait_for(
            "all ready",
            lambda: {m["machine_id"] for m in lab.gateway.machines() if m["status"] == "ready"} == ids,
        )
        took_s = time.monotonic() - began_s
        for machine_id in ids:
            entries = [e for e in lab.gateway.requests()[before:] if e["machine_id"] == machine_id]
            lost = next(n for n, entry in enumerate(entries) if entry["status"] == 500)
            assert [entry["route"] for entry in entries[lost + 1 : lost + 3]] == ["register", "keepalive"]
            assert [entry["route"] for entry in entries].count("register") == 1
        assert took_s < within(interval_s + 3)

    moments = simulated_restart(50)
    assert max(moments) < 60
    busiest = max(sum(second <= moment < second + 1 for moment in moments) for second in range(60))
    assert busiest < 50 / 2
    report(
        f"{AGENTS} real agents in {took_s:.1f} s (interval {interval_s} s); 50 simulated in {max(moments):.0f} s "
        f"(interval 60 s), at most {busiest} in one second",
        took_s,
    )


def simulated_restart(count: int) -> list[float]:
    """Simulate a gateway that loses its state; return the seconds until each machine is ready again.

    The machines start spread over one minute.
    """
    ready_after_s = []
    for seed in range(count):
        world = World(seed)
        world.run_for(5 + seed * 60 / count)
        assert world.state.displayed is DisplayedState.READY
        sent: list[str] = []

        def watch(
            world: World, _event: Event, before: AgentState, after: AgentState, sent: list[str] = sent
        ) -> None:
            if after.call is not None and after.call != before.call:
                sent.append(after.call.kind.value)

        world.watch = watch
        world.entry = None
        began_s = world.now_s
        while not world.would_place():
            world.run_for(0.05)
            assert world.now_s - began_s < 300
        ready_after_s.append(world.now_s - began_s)
        assert sent[:3] == ["keepalive", "register", "keepalive"]
        assert len(sent) == 3
    return ready_after_s


@pytest.mark.fault(67)
def test_fault_67_machine_not_found_escaped(lab: Lab, report: Report) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    lab.gateway.wipe()
    wait_for("ready again", lambda: lab.gateway.status(agent.machine_id) == "ready")
    took_s = time.monotonic() - began_s
    assert agent.status()["registration"]["times"] == 2

    # A call without the agent shows that the text is escaped on the wire.
    token = Path(agent.environment["BETA9_TOKEN_FILE"]).read_text().strip()
    body = {"machine_id": "00000000", "pool_name": "gpu", "provider_name": "generic", "metrics": {}}
    request = urllib.request.Request(
        f"http://{lab.target}/api/v1/machine/keepalive",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    raw = refused.value.read()
    assert rb"\u003cprovider:machine:" in raw
    assert b"<" not in raw
    report(f"escaped on the wire, recognised, ready again after {took_s:.1f} s", took_s)
