"""Drains that people request: drills, `leave`, signals, and handing over to a new agent process."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.integration.bounds import within
from tests.integration.faults.interruption.cloud_machine import (
    NEVER_S,
    drain_steps,
    is_pod_running,
    place_worker,
    running_pods,
    would_place,
)
from tests.integration.lab import Lab
from tests.integration.polling import wait_for


def test_a_drill_drains_and_ends_in_order_and_rejoin_brings_it_back(lab: Lab) -> None:
    agent = lab.ready_agent(BETA9_KUBECONFIG=str(lab.kubeconfig))
    result = agent.command("simulate-interruption", "--in", "30s")
    assert result.returncode == 0, result.stderr
    assert agent.wait_exit() == 0
    assert agent.events("notice")
    assert not would_place(lab, agent)
    assert agent.start().wait_exit() == 0
    agent.start("--rejoin").wait_back()


def test_a_drill_of_a_rebalance_only_withdraws_the_offer(lab: Lab) -> None:
    agent = lab.ready_agent(BETA9_KUBECONFIG=str(lab.kubeconfig))
    assert agent.command("simulate-interruption", "--kind", "rebalance").returncode == 0
    wait_for("withdrawn", lambda: not would_place(lab, agent))
    assert agent.status()["state"] == "READY"
    assert agent.stop() == 0
    agent.start().wait_back()
    assert not lab.kubernetes.node()["spec"].get("unschedulable"), "the cordon was not taken back"


def test_leave_when_idle_waits_for_the_last_worker_and_keeps_the_lease(lab: Lab) -> None:
    agent = lab.ready_agent(
        {"node_interval_s": 1}, BETA9_KUBECONFIG=str(lab.kubeconfig), BETA9_KEEPALIVE_INTERVAL="1"
    )
    place_worker(lab, agent, NEVER_S)
    result = agent.command("leave", "--when-idle")
    assert result.returncode == 0, result.stderr
    wait_for("withdrawn", lambda: not would_place(lab, agent))
    wait_for("it waits", lambda: (agent.status()["drain"] or {}).get("step") == "waiting")
    kept = len(lab.gateway.requests("keepalive"))
    wait_for("the lease is kept", lambda: len(lab.gateway.requests("keepalive")) >= kept + 3)
    assert agent.status()["drain"]["deadline_in_s"] is None
    assert lab.kubernetes.terminations() == []
    for job in lab.kubernetes.jobs():
        lab.kubernetes.finish_job(job["metadata"]["name"])
    assert agent.wait_exit() == 0
    assert lab.gateway.status(agent.machine_id) == "registered"
    assert agent.start().wait_exit() == 0
    assert agent.events("stays_away")


def test_leave_without_a_running_agent_keeps_the_next_one_away(lab: Lab) -> None:
    agent = lab.agent()
    assert agent.command("leave").returncode == 0
    assert agent.start().wait_exit() == 0
    assert agent.events("stays_away")


def test_a_signal_gives_workers_the_drain_timeout_and_writes_no_marker(lab: Lab) -> None:
    agent = lab.ready_agent(
        {"stop_force_before_s": 4, "node_interval_s": 1},
        BETA9_KUBECONFIG=str(lab.kubeconfig),
        BETA9_DRAIN_TIMEOUT="12",
    )
    pod = place_worker(lab, agent, NEVER_S)
    began_s = time.monotonic()
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    took_s = time.monotonic() - began_s
    graces = [grace for name, grace in lab.kubernetes.terminations() if name == pod]
    assert 5 <= graces[0] <= 8
    assert 7 <= took_s <= within(13)
    assert running_pods(lab) == 0
    assert not (Path(agent.environment["BETA9_STATE_DIR"]) / "stop.json").exists()
    agent.start().wait_back()


def test_a_second_signal_ends_at_once_also_while_workers_run(lab: Lab) -> None:
    agent = lab.ready_agent({"node_interval_s": 1}, BETA9_KUBECONFIG=str(lab.kubeconfig))
    place_worker(lab, agent, NEVER_S)
    agent.signal(signal.SIGTERM)
    wait_for("workers are being terminated", lambda: "ending" in drain_steps(agent))
    began_s = time.monotonic()
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    assert time.monotonic() - began_s < within(10)


def test_a_worker_lives_through_a_hand_over(lab: Lab) -> None:
    agent = lab.ready_agent({"node_interval_s": 1}, BETA9_KUBECONFIG=str(lab.kubeconfig))
    pod = place_worker(lab, agent, NEVER_S)
    agent.signal(signal.SIGUSR1)
    assert agent.wait_exit() == 0
    agent.start().wait_back()
    assert lab.kubernetes.terminations() == []
    assert pod in [each["metadata"]["name"] for each in lab.kubernetes.pods() if is_pod_running(each)]
