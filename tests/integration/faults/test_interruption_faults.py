"""Fault rows 53 to 60: the cloud takes the machine away, with notice or without.

The metadata service is a stand-in (its docstring says for what); agent, ssh and sshd are real. Scaled: a notice
comes NOTICE_S ahead instead of 120 s and workers get until FORCE_S before the end instead of 20 s.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.bounds import within
from tests.integration.lab import AgentProcess, Lab, laboratory, wait_for
from tests.integration.metadata_service import INSTANCE_ID, MetadataService
from tests.integration.told import Tell

NOTICE_S = 30
FORCE_S = 15
LEASE_S = 15
NEVER_S = 3600.0
TUNING = {"force_before_s": FORCE_S, "node_interval_s": 1}


@pytest.fixture
def cloud() -> Iterator[MetadataService]:
    with MetadataService() as service:
        yield service


def ready_in(lab: Lab, cloud: MetadataService, **settings: str) -> AgentProcess:
    """A machine on that cloud which is ready and offers."""
    return lab.ready_agent(TUNING, **settings_in(lab, cloud), **settings)


def settings_in(lab: Lab, cloud: MetadataService) -> dict[str, str]:
    return {
        "BETA9_INTERRUPTION": "auto",
        "BETA9_METADATA_ENDPOINT": cloud.url,
        "BETA9_KUBECONFIG": str(lab.kubeconfig),
        "BETA9_KEEPALIVE_INTERVAL": "1",
    }


def would_place(lab: Lab, agent: AgentProcess) -> bool:
    return bool(lab.gateway.would_place(agent.machine_id)[0])


def withdrawn_after_s(lab: Lab, agent: AgentProcess, began_s: float) -> float:
    """Seconds from `began_s` until the gateway would place nothing more."""
    wait_for("nothing can be placed", lambda: not would_place(lab, agent))
    return time.monotonic() - began_s


def with_worker(lab: Lab, agent: AgentProcess, stop_s: float) -> str:
    """Let the gateway place a worker; its pod's name. It takes `stop_s` to end once it is told to."""
    lab.kubernetes.set_node(stop_s=stop_s)
    lab.gateway.set_demand("gpu", 1)
    pods = wait_for("a worker runs", lambda: [pod for pod in lab.kubernetes.pods() if _runs(pod)])
    lab.gateway.set_demand("gpu", 5)
    wait_for("it is seen", lambda: agent.status()["kubernetes"]["node"]["worker_count"] >= 1)
    return str(pods[0]["metadata"]["name"])


def _runs(pod: dict[str, Any]) -> bool:
    return bool(pod["status"]["phase"] == "Running")


def running(lab: Lab) -> int:
    return sum(map(_runs, lab.kubernetes.pods()))


def steps(agent: AgentProcess) -> list[str]:
    return [each["step"] for each in agent.events("drain")]


def assert_left_in_order(lab: Lab, agent: AgentProcess) -> None:
    """It exits 0, is only registered at the gateway, and stays away."""
    assert agent.wait_exit() == 0
    assert lab.gateway.status(agent.machine_id) == "registered"
    assert not would_place(lab, agent)
    marker = json.loads((Path(agent.environment["BETA9_STATE_DIR"]) / "stop.json").read_text())
    assert marker["instance_id"] == INSTANCE_ID
    assert agent.start().wait_exit() == 0
    assert agent.events("stays_away")


@pytest.mark.fault(53)
def test_fault_53_notice_while_idle(lab: Lab, cloud: MetadataService, tell: Tell) -> None:
    agent = ready_in(lab, cloud)
    began_s = time.monotonic()
    cloud.announce(120)
    placeable_s = withdrawn_after_s(lab, agent, began_s)
    code = agent.wait_exit()
    took_s = time.monotonic() - began_s
    assert code == 0
    assert placeable_s <= within(5)
    assert steps(agent) == ["looking", "farewell"]
    assert_left_in_order(lab, agent)
    tell(
        f"not placeable after {placeable_s:.1f} s, exit 0 after {took_s:.1f} s",
        took_s,
    )


@pytest.mark.fault(54)
@pytest.mark.parametrize("stop_s", [1.0, NEVER_S], ids=["they end by themselves", "they don't"])
def test_fault_54_notice_while_workers_run(
    lab: Lab, cloud: MetadataService, tell: Tell, stop_s: float
) -> None:
    agent = ready_in(lab, cloud)
    pod = with_worker(lab, agent, stop_s)
    began_s = time.monotonic()
    cloud.announce(NOTICE_S)
    placeable_s = withdrawn_after_s(lab, agent, began_s)
    assert placeable_s <= within(5)
    wait_for("the worker is told", lambda: [name for name, _ in lab.kubernetes.told() if name == pod])
    wait_for("cordoned", lambda: lab.kubernetes.node()["spec"].get("unschedulable"))
    if stop_s == NEVER_S:
        told = wait_for("progress", lambda: agent.status()["interruption"])
        assert told["kind"] == "terminate"
        assert told["step"] == "ending"
        assert 0 < told["deadline_in_s"] <= NOTICE_S
        wait_for("the lease is kept", lambda: lab.gateway.status(agent.machine_id) == "ready")
    wait_for("no worker runs", lambda: running(lab) == 0)
    gone_s = time.monotonic() - began_s
    ssh = agent.ssh_pids()
    code = agent.wait_exit()
    took_s = time.monotonic() - began_s
    assert code == 0
    graces = [grace for name, grace in lab.kubernetes.told() if name == pod]
    assert 0 < graces[0] <= NOTICE_S - FORCE_S
    assert steps(agent) == ["looking", "ending", "forcing", "farewell"]
    assert lab.kubernetes.jobs() == [], "a Job is left that would start the worker again"
    if stop_s == NEVER_S:
        assert gone_s >= graces[0] - 1, "the worker did not get its time"
    assert took_s < within(NOTICE_S)
    assert not [pid for pid in ssh.values() if Path(f"/proc/{pid}").exists()], "an ssh child is left"
    assert_left_in_order(lab, agent)
    tell(
        f"not placeable after {placeable_s:.1f} s; grace {graces[0]:.0f} s of {NOTICE_S} s, workers gone after "
        f"{gone_s:.1f} s; exit 0 after {took_s:.1f} s",
        took_s,
    )


@pytest.mark.fault(55)
def test_fault_55_notice_with_the_tunnel_down(lab: Lab, cloud: MetadataService, tell: Tell) -> None:
    agent = ready_in(lab, cloud)
    pod = with_worker(lab, agent, 1.0)
    lab.sshd.stop()
    wait_for("the tunnel is down", lambda: not agent.status()["tunnel"]["up"])
    began_s = time.monotonic()
    cloud.announce(NOTICE_S)
    assert agent.wait_exit() == 0
    took_s = time.monotonic() - began_s
    assert took_s < within(NOTICE_S)
    assert pod in [name for name, _ in lab.kubernetes.told()]
    assert running(lab) == 0
    tell(
        f"workers ended, exit 0 after {took_s:.1f} s of {NOTICE_S} s",
        took_s,
    )


@pytest.mark.fault(56)
def test_fault_56_notice_during_registration(lab: Lab, cloud: MetadataService, tell: Tell) -> None:
    agent = lab.agent(TUNING, **settings_in(lab, cloud))
    lab.gateway.set_fault("delay", route="register", count=1, delay_s=4)
    agent.start()
    wait_for("a registration is under way", lambda: agent.events("tunnel_reverse_up"))
    began_s = time.monotonic()
    cloud.announce(NOTICE_S)
    assert agent.wait_exit() == 0
    took_s = time.monotonic() - began_s
    assert lab.gateway.status(agent.machine_id) in {"registered", "pending"}
    assert not would_place(lab, agent)
    tell(
        f"{lab.gateway.status(agent.machine_id)}, exit 0 after {took_s:.1f} s",
        took_s,
    )


@pytest.mark.fault(57)
def test_fault_57_metadata_service_in_trouble(lab: Lab, cloud: MetadataService, tell: Tell) -> None:
    agent = ready_in(lab, cloud)
    began_s = time.monotonic()
    spot = "spot/instance-action"

    def asked_again(times: int = 2) -> None:
        before = cloud.asked[spot] + cloud.asked["token"]
        wait_for("asked again", lambda: cloud.asked[spot] + cloud.asked["token"] >= before + times)

    asked_again()  # 404 to everything
    tokens = cloud.asked["token"]
    cloud.expire_tokens()
    wait_for("a fresh token", lambda: cloud.asked["token"] > tokens)
    for status in (500, 429, 403):
        cloud.failing = status
        asked_again()
    cloud.failing = None
    for body in (
        "<html>a proxy</html>",
        "{",
        "null",
        '{"action": "explode", "time": "2020-01-01T00:00:00Z"}',
    ):
        cloud.body = body
        asked_again()
    cloud.body = None
    cloud.announce(-10 * 86_400)  # years may pass; a notice of last week is none
    asked_again()
    del cloud.documents[spot]
    kept = len(lab.gateway.requests("keepalive"))
    cloud.go.clear()  # accepts, and does not answer
    wait_for("keepalives go on", lambda: len(lab.gateway.requests("keepalive")) >= kept + 3)
    cloud.go.set()
    asked_again()
    assert agent.is_back()
    assert agent.status()["interruption"] is None
    assert not agent.events("notice")
    assert agent.status()["keepalive"]["failures"] == 0
    # And after all of that a real one is heeded.
    cloud.announce(120)
    assert agent.wait_exit() == 0
    tell(
        "a fresh token after 401; 404, 403, 429, 500, garbage and silence changed nothing",
        time.monotonic() - began_s,
    )


@pytest.mark.fault(58)
def test_fault_58_rebalance_recommendation_only(lab: Lab, cloud: MetadataService, tell: Tell) -> None:
    agent = ready_in(lab, cloud)
    with_worker(lab, agent, NEVER_S)
    began_s = time.monotonic()
    cloud.recommend_rebalance()
    placeable_s = withdrawn_after_s(lab, agent, began_s)
    wait_for("cordoned", lambda: lab.kubernetes.node()["spec"].get("unschedulable"))
    kept = len(lab.gateway.requests("keepalive"))
    wait_for("the lease is kept", lambda: len(lab.gateway.requests("keepalive")) >= kept + 3)
    status = agent.status()
    assert status["state"] == "READY"
    assert status["interruption"]["kind"] == "rebalance"
    assert status["interruption"]["step"] == "withdrawn"
    assert running(lab) >= 1
    assert lab.kubernetes.told() == []
    del cloud.documents["events/recommendations/rebalance"]
    agent.wait_back()
    assert not lab.kubernetes.node()["spec"].get("unschedulable")
    tell(
        f"not placeable after {placeable_s:.1f} s, READY, workers untouched; lifted: offered again",
        placeable_s,
    )


@pytest.mark.fault(58)
def test_fault_58_rebalance_recommendation_ignored_where_told_so(
    lab: Lab, cloud: MetadataService, tell: Tell
) -> None:
    agent = ready_in(lab, cloud, BETA9_REBALANCE="ignore")
    began_s = time.monotonic()
    cloud.recommend_rebalance()
    wait_for("it is told", lambda: agent.status()["interruption"])
    assert agent.status()["interruption"]["step"] == "ignored"
    assert agent.is_back()
    assert would_place(lab, agent)
    tell(
        "offers as before, named in /status",
        time.monotonic() - began_s,
    )


@pytest.mark.fault(59)
def test_fault_59_a_keepalive_in_flight_when_the_drain_starts(
    lab: Lab, cloud: MetadataService, tell: Tell
) -> None:
    agent = ready_in(lab, cloud)
    with_worker(lab, agent, NEVER_S)
    number = lab.gateway.set_fault("delay", route="keepalive", delay_s=3)
    kept = len(lab.gateway.requests("keepalive"))
    wait_for("a keepalive is in flight", lambda: len(lab.gateway.requests("keepalive")) > kept)
    began_s = time.monotonic()
    cloud.announce(NOTICE_S)
    wait_for("it drains", lambda: agent.status()["state"] == "DRAINING")
    lab.gateway.clear_faults(number)
    placeable_s = withdrawn_after_s(lab, agent, began_s)
    # Whatever arrives late: nothing makes it placeable again.
    while agent.child is not None and agent.child.code is None:
        assert not would_place(lab, agent)
        time.sleep(0.05)
    assert agent.wait_exit() == 0
    assert not would_place(lab, agent)
    tell(
        f"not placeable after {placeable_s:.1f} s, nor at any later moment",
        time.monotonic() - began_s,
    )


@pytest.mark.fault(60)
def test_fault_60_machine_dies_without_notice(tmp_path: Path, cloud: MetadataService, tell: Tell) -> None:
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
        tell(
            f"gone after {expired_s:.0f} s of a {LEASE_S} s lease; the same machine, one registration",
            time.monotonic() - began_s,
        )


# --- What people ask for -----------------------------------------------------------------------------------


def command(agent: AgentProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the agent's own, on the same machine."""
    return subprocess.run(
        [sys.executable, "-m", "agent", *words],
        env=agent.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_drill_drains_and_ends_in_order_and_rejoin_brings_it_back(lab: Lab) -> None:
    agent = lab.ready_agent(BETA9_KUBECONFIG=str(lab.kubeconfig))
    said = command(agent, "simulate-interruption", "--in", "30s")
    assert said.returncode == 0, said.stderr
    assert agent.wait_exit() == 0
    assert agent.events("notice")
    assert not would_place(lab, agent)
    assert agent.start().wait_exit() == 0
    agent.start("--rejoin").wait_back()


def test_a_drill_of_a_rebalance_only_withdraws_the_offer(lab: Lab) -> None:
    agent = lab.ready_agent(BETA9_KUBECONFIG=str(lab.kubeconfig))
    assert command(agent, "simulate-interruption", "--kind", "rebalance").returncode == 0
    wait_for("withdrawn", lambda: not would_place(lab, agent))
    assert agent.status()["state"] == "READY"
    assert agent.stop() == 0
    agent.start().wait_back()
    assert not lab.kubernetes.node()["spec"].get("unschedulable"), "the cordon was not taken back"


def test_leave_when_idle_waits_for_the_last_worker_and_keeps_the_lease(lab: Lab) -> None:
    agent = lab.ready_agent(
        {"node_interval_s": 1}, BETA9_KUBECONFIG=str(lab.kubeconfig), BETA9_KEEPALIVE_INTERVAL="1"
    )
    with_worker(lab, agent, NEVER_S)
    said = command(agent, "leave", "--when-idle")
    assert said.returncode == 0, said.stderr
    wait_for("withdrawn", lambda: not would_place(lab, agent))
    wait_for("it waits", lambda: (agent.status()["drain"] or {}).get("step") == "waiting")
    kept = len(lab.gateway.requests("keepalive"))
    wait_for("the lease is kept", lambda: len(lab.gateway.requests("keepalive")) >= kept + 3)
    assert agent.status()["drain"]["deadline_in_s"] is None
    assert lab.kubernetes.told() == []
    for job in lab.kubernetes.jobs():
        lab.kubernetes.finish_job(job["metadata"]["name"])
    assert agent.wait_exit() == 0
    assert lab.gateway.status(agent.machine_id) == "registered"
    assert agent.start().wait_exit() == 0
    assert agent.events("stays_away")


def test_leave_without_a_running_agent_keeps_the_next_one_away(lab: Lab) -> None:
    agent = lab.agent()
    assert command(agent, "leave").returncode == 0
    assert agent.start().wait_exit() == 0
    assert agent.events("stays_away")


def test_a_signal_gives_workers_the_drain_timeout_and_writes_no_marker(lab: Lab) -> None:
    agent = lab.ready_agent(
        {"stop_force_before_s": 4, "node_interval_s": 1},
        BETA9_KUBECONFIG=str(lab.kubeconfig),
        BETA9_DRAIN_TIMEOUT="12",
    )
    pod = with_worker(lab, agent, NEVER_S)
    began_s = time.monotonic()
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    took_s = time.monotonic() - began_s
    graces = [grace for name, grace in lab.kubernetes.told() if name == pod]
    assert 5 <= graces[0] <= 8
    assert 7 <= took_s <= within(13)
    assert running(lab) == 0
    assert not (Path(agent.environment["BETA9_STATE_DIR"]) / "stop.json").exists()
    agent.start().wait_back()


def test_a_second_signal_ends_at_once_also_while_workers_run(lab: Lab) -> None:
    agent = lab.ready_agent({"node_interval_s": 1}, BETA9_KUBECONFIG=str(lab.kubeconfig))
    with_worker(lab, agent, NEVER_S)
    agent.signal(signal.SIGTERM)
    wait_for("it ends workers", lambda: "ending" in steps(agent))
    began_s = time.monotonic()
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    assert time.monotonic() - began_s < within(10)


def test_a_worker_lives_through_a_hand_over(lab: Lab) -> None:
    agent = lab.ready_agent({"node_interval_s": 1}, BETA9_KUBECONFIG=str(lab.kubeconfig))
    pod = with_worker(lab, agent, NEVER_S)
    agent.signal(signal.SIGUSR1)
    assert agent.wait_exit() == 0
    agent.start().wait_back()
    assert lab.kubernetes.told() == []
    assert pod in [each["metadata"]["name"] for each in lab.kubernetes.pods() if _runs(each)]


def test_another_machine_made_from_the_disk_starts_clean(lab: Lab, cloud: MetadataService) -> None:
    agent = ready_in(lab, cloud)
    cloud.announce(120)
    assert agent.wait_exit() == 0
    del cloud.documents["spot/instance-action"]
    cloud.documents["instance-id"] = "i-0fedcba9876543210"
    agent.start().wait_back()
    assert agent.events("rejoins")
