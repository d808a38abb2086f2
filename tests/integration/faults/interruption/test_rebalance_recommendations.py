"""Fault row 58: a rebalance recommendation without an interruption notice."""

from __future__ import annotations

import time

import pytest

from agent.core.cloud.interruption import REBALANCE_STANDS_S
from tests.integration.fault_report import Report
from tests.integration.faults.interruption.cloud_machine import (
    NEVER_S,
    place_worker,
    ready_in,
    running_pods,
    withdrawn_after_s,
    would_place,
)
from tests.integration.lab import Lab
from tests.integration.metadata_service import MetadataService
from tests.integration.polling import wait_for


@pytest.mark.fault(58)
def test_fault_58_rebalance_recommendation_only(lab: Lab, cloud: MetadataService, report: Report) -> None:
    agent = ready_in(lab, cloud)
    place_worker(lab, agent, NEVER_S)
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
    assert running_pods(lab) >= 1
    assert lab.kubernetes.terminations() == []
    del cloud.documents["events/recommendations/rebalance"]
    agent.wait_back()
    assert not lab.kubernetes.node()["spec"].get("unschedulable")
    report(
        f"not placeable after {placeable_s:.1f} s, READY, workers undisturbed; withdrawn: offered again",
        placeable_s,
    )


@pytest.mark.fault(58)
def test_fault_58_rebalance_recommendation_ignored_where_told_so(
    lab: Lab, cloud: MetadataService, report: Report
) -> None:
    agent = ready_in(lab, cloud, BETA9_REBALANCE="ignore")
    began_s = time.monotonic()
    cloud.recommend_rebalance()
    wait_for("the recommendation in /status", lambda: agent.status()["interruption"])
    assert agent.status()["interruption"]["step"] == "ignored"
    assert agent.is_back()
    assert would_place(lab, agent)
    report(
        "offers as before, shown in /status",
        time.monotonic() - began_s,
    )


@pytest.mark.parametrize("age_s", [72 * 3600, 30 * 86400], ids=["72 hours", "30 days"])
def test_a_recommendation_that_nothing_has_followed_keeps_no_machine_idle(
    lab: Lab, cloud: MetadataService, age_s: float
) -> None:
    """Field case 13.1, right after a start; the node may still be cordoned from before."""
    cloud.recommend_rebalance(age_s)
    agent = ready_in(lab, cloud)
    assert agent.status()["interruption"] is None
    wait_for("not cordoned", lambda: not lab.kubernetes.node()["spec"].get("unschedulable"))
    assert would_place(lab, agent)


def test_a_recommendation_ends_by_itself_while_the_agent_runs(lab: Lab, cloud: MetadataService) -> None:
    """Field case 13.1: withdrawn at first, and offered again with nothing new from the cloud."""
    agent = ready_in(lab, cloud)
    cloud.recommend_rebalance(REBALANCE_STANDS_S - 12)
    wait_for("withdrawn", lambda: not would_place(lab, agent))
    assert "this ends at" in agent.status()["interruption"]["reason"]
    agent.wait_back()
    assert agent.status()["interruption"] is None
    wait_for("not cordoned", lambda: not lab.kubernetes.node()["spec"].get("unschedulable"))
