"""Fault rows 53 to 57, 59 and 60: the cloud takes the machine away, with notice or without."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.integration.agent_process import AgentProcess
from tests.integration.bounds import within
from tests.integration.fault_report import Report
from tests.integration.faults.interruption.cloud_machine import (
    FORCE_S,
    NEVER_S,
    NOTICE_S,
    TUNING,
    drain_steps,
    place_worker,
    ready_in,
    running_pods,
    settings_in,
    withdrawn_after_s,
    would_place,
)
from tests.integration.lab import Lab, laboratory
from tests.integration.metadata_service import INSTANCE_ID, MetadataService
from tests.integration.polling import wait_for

LEASE_S = 15


def assert_clean_exit(lab: Lab, agent: AgentProcess) -> None:
    """Assert that it exits 0, is only registered at the gateway, and does not start again."""
    assert agent.wait_exit() == 0
    assert lab.gateway.status(agent.machine_id) == "registered"
    assert not would_place(lab, agent)
    marker = json.loads((Path(agent.environment["BETA9_STATE_DIR"]) / "stop.json").read_text())
    assert marker["instance_id"] == INSTANCE_ID
    assert agent.start().wait_exit() == 0
    assert agent.events("stays_away")


@pytest.mark.fault(53)
def test_fault_53_notice_while_idle(lab: Lab, cloud: MetadataService, report: Report) -> None:
    agent = ready_in(lab, cloud)
    began_s = time.monotonic()
    cloud.announce(120)
    placeable_s = withdrawn_after_s(lab, agent, began_s)
    code = agent.wait_exit()
    took_s = time.monotonic() - began_s
    assert code == 0
    assert placeable_s <= within(5)
    assert drain_steps(agent) == ["looking", "farewell"]
    assert_clean_exit(lab, agent)
    report(
        f"not placeable after {placeable_s:.1f} s, exit 0 after {took_s:.1f} s",
        took_s,
    )


@pytest.mark.fault(54)
@pytest.mark.parametrize("stop_s", [1.0, NEVER_S], ids=["they end by themselves", "they don't"])
def test_fault_54_notice_while_workers_run(
    lab: Lab, cloud: MetadataService, report: Report, stop_s: float
) -> None:
    agent = ready_in(lab, cloud)
    pod = place_worker(lab, agent, stop_s)
    began_s = time.monotonic()
    cloud.announce(NOTICE_S)
    placeable_s = withdrawn_after_s(lab, agent, began_s)
    assert placeable_s <= within(5)
    wait_for(
        "the worker is terminated", lambda: [name for name, _ in lab.kubernetes.terminations() if name == pod]
    )
    wait_for("cordoned", lambda: lab.kubernetes.node()["spec"].get("unschedulable"))
    if stop_s == NEVER_S:
        interruption = wait_for("progress in /status", lambda: agent.status()["interruption"])
        assert interruption["kind"] == "terminate"
        assert interruption["step"] == "ending"
        assert 0 < interruption["deadline_in_s"] <= NOTICE_S
        wait_for("the lease is kept", lambda: lab.gateway.status(agent.machine_id) == "ready")
    wait_for("no worker runs", lambda: running_pods(lab) == 0)
    ended_s = time.monotonic() - began_s
    ssh = agent.ssh_pids()
    code = agent.wait_exit()
    took_s = time.monotonic() - began_s
    assert code == 0
    graces = [grace for name, grace in lab.kubernetes.terminations() if name == pod]
    assert 0 < graces[0] <= NOTICE_S - FORCE_S
    assert drain_steps(agent) == ["looking", "ending", "forcing", "farewell"]
    assert lab.kubernetes.jobs() == [], "a Job is left over that would start the worker again"
    if stop_s == NEVER_S:
        assert ended_s >= graces[0] - 1, "the worker did not get its grace period"
    assert took_s < within(NOTICE_S)
    assert not [pid for pid in ssh.values() if Path(f"/proc/{pid}").exists()], "an ssh child is left over"
    assert_clean_exit(lab, agent)
    report(
        f"not placeable after {placeable_s:.1f} s; grace {graces[0]:.0f} s of {NOTICE_S} s, workers ended after "
        f"{ended_s:.1f} s; exit 0 after {took_s:.1f} s",
        took_s,
    )


@pytest.mark.fault(55)
def test_fault_55_notice_with_the_tunnel_down(lab: Lab, cloud: MetadataService, report: Report) -> None:
    agent = ready_in(lab, cloud)
    pod = place_worker(lab, agent, 1.0)
    lab.sshd.stop()
    wait_for("the tunnel is down", lambda: not agent.status()["tunnel"]["up"])
    began_s = time.monotonic()
    cloud.announce(NOTICE_S)
    assert agent.wait_exit() == 0
    took_s = time.monotonic() - began_s
    assert took_s < within(NOTICE_S)
    assert pod in [name for name, _ in lab.kubernetes.terminations()]
    assert running_pods(lab) == 0
    report(
        f"workers ended, exit 0 after {took_s:.1f} s of {NOTICE_S} s",
        took_s,
    )


@pytest.mark.fault(56)
def test_fault_56_notice_during_registration(lab: Lab, cloud: MetadataService, report: Report) -> None:
    agent = lab.agent(TUNING, **settings_in(lab, cloud))
    lab.gateway.set_fault("delay", route="register", count=1, delay_s=4)
    agent.start()
    wait_for(
        "the reverse tunnel is up, so that a registration follows", lambda: agent.events("tunnel_reverse_up")
    )
    began_s = time.monotonic()
    cloud.announce(NOTICE_S)
    assert agent.wait_exit() == 0
    took_s = time.monotonic() - began_s
    assert lab.gateway.status(agent.machine_id) in {"registered", "pending"}
    assert not would_place(lab, agent)
    report(
        f"{lab.gateway.status(agent.machine_id)}, exit 0 after {took_s:.1f} s",
        took_s,
    )


@pytest.mark.fault(57)
def test_fault_57_metadata_service_in_trouble(lab: Lab, cloud: MetadataService, report: Report) -> None:
    agent = ready_in(lab, cloud)
    began_s = time.monotonic()
    spot = "spot/instance-action"

    def wait_for_requests(count: int = 2) -> None:
        before = cloud.asked[spot] + cloud.asked["token"]
        wait_for("further requests", lambda: cloud.asked[spot] + cloud.asked["token"] >= before + count)

    wait_for_requests()  # 404 to everything
    tokens = cloud.asked["token"]
    cloud.expire_tokens()
    wait_for("a new token", lambda: cloud.asked["token"] > tokens)
    for status in (500, 429, 403):
        cloud.failing = status
        wait_for_requests()
    cloud.failing = None
    for body in (
        "<html>a proxy</html>",
        "{",
        "null",
        '{"action": "explode", "time": "2020-01-01T00:00:00Z"}',
    ):
        cloud.body = body
        wait_for_requests()
    cloud.body = None
    cloud.announce(-10 * 86_400)  # a notice from last week is stale
    wait_for_requests()
    del cloud.documents[spot]
    kept = len(lab.gateway.requests("keepalive"))
    cloud.go.clear()  # it accepts connections and does not answer
    wait_for("keepalives go on", lambda: len(lab.gateway.requests("keepalive")) >= kept + 3)
    cloud.go.set()
    wait_for_requests()
    assert agent.is_back()
    assert agent.status()["interruption"] is None
    assert not agent.events("notice")
    assert agent.status()["keepalive"]["failures"] == 0
    # After all of that the agent still acts on a real notice.
    cloud.announce(120)
    assert agent.wait_exit() == 0
    report(
        "a new token after 401; 404, 403, 429, 500, garbage and silence changed nothing",
        time.monotonic() - began_s,
    )


@pytest.mark.fault(59)
def test_fault_59_a_keepalive_in_flight_when_the_drain_starts(
    lab: Lab, cloud: MetadataService, report: Report
) -> None:
    agent = ready_in(lab, cloud)
    place_worker(lab, agent, NEVER_S)
    number = lab.gateway.set_fault("delay", route="keepalive", delay_s=3)
    kept = len(lab.gateway.requests("keepalive"))
    wait_for("a keepalive is in flight", lambda: len(lab.gateway.requests("keepalive")) > kept)
    began_s = time.monotonic()
    cloud.announce(NOTICE_S)
    wait_for("it drains", lambda: agent.status()["state"] == "DRAINING")
    lab.gateway.clear_faults(number)
    placeable_s = withdrawn_after_s(lab, agent, began_s)
    # No late reply may make it placeable again.
    while agent.child is not None and agent.child.code is None:
        assert not would_place(lab, agent)
        time.sleep(0.05)
    assert agent.wait_exit() == 0
    assert not would_place(lab, agent)
    report(
        f"not placeable after {placeable_s:.1f} s, nor at any later time",
        time.monotonic() - began_s,
    )


@pytest.mark.fault(60)
def test_fault_60_machine_dies_without_notice(tmp_path: Path, cloud: MetadataService, report: Report) -> None:
    with laboratory(tmp_path, gateway_options=("--ttl", str(LEASE_S))) as lab:
        tuning = {"ttl_s": LEASE_S, "keepalive_timeout_s": 2, "call_retry_cap_s": 1}
        settings = settings_in(lab, cloud)
        agent = lab.ready_agent(tuning, **settings)
        began_s = time.monotonic()
        agent.signal(signal.SIGKILL)
        agent.wait_exit()
        wait_for("the entry expires", lambda: lab.gateway.machine(agent.machine_id) is None)
        expired_s = time.monotonic() - began_s
        agent.start().wait_back()
        assert agent.status()["registration"]["times"] == 1
        assert lab.gateway.status(agent.machine_id) == "ready"
        report(
            f"expired after {expired_s:.0f} s of a {LEASE_S} s lease; then the same machine, one registration",
            time.monotonic() - began_s,
        )


def test_another_machine_made_from_the_disk_starts_clean(lab: Lab, cloud: MetadataService) -> None:
    agent = ready_in(lab, cloud)
    cloud.announce(120)
    assert agent.wait_exit() == 0
    del cloud.documents["spot/instance-action"]
    cloud.documents["instance-id"] = "i-0fedcba9876543210"
    agent.start().wait_back()
    assert agent.events("rejoins")
