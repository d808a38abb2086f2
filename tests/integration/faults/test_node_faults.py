"""Fault row 81: the API answers, and a worker could not start on this machine all the same.

Scaled: the node's grace period is GRACE_S instead of 30 s, and the node is read every second instead of every 10 s.
"""

from __future__ import annotations

import time

import pytest

from agent.core.policy import Policy
from tests.integration.fault_report import Report
from tests.integration.lab import Lab
from tests.integration.polling import wait_for

GRACE_S = 2
TUNING = {"node_grace_s": GRACE_S, "node_interval_s": 1}


@pytest.mark.fault(81)
def test_fault_81_no_node(lab: Lab, report: Report) -> None:
    """The node is deleted while the agent offers, and is back later; a start without one offers nothing at all."""
    settings = {"BETA9_KUBECONFIG": str(lab.kubeconfig), "BETA9_KEEPALIVE_INTERVAL": "1"}
    agent = lab.ready_agent(TUNING, **settings)
    began_s = time.monotonic()
    lab.kubernetes.set_node(absent=True)
    wait_for("nothing is offered", lambda: not lab.gateway.would_place(agent.machine_id)[0])
    withdrawn_s = time.monotonic() - began_s
    status = agent.status()
    assert "none of the 0 Kubernetes nodes" in status["capacity"]["reason"]
    assert status["placement"]["blocked_by"] == "node"
    assert status["kubernetes"]["node"] is None
    assert agent.stop() == 0

    agent.start()
    wait_for("it is leased", lambda: agent.status().get("placement", {}).get("keepalives_go"))
    lab.gateway.set_demand("gpu", 1)
    assert not lab.gateway.would_place(agent.machine_id)[0]
    assert [each["what"] for each in agent.events("offering")].count("everything") == 1
    began_s = time.monotonic()
    lab.kubernetes.set_node(absent=False)
    agent.wait_back()
    back_s = time.monotonic() - began_s
    wait_for("work is placed now", lab.kubernetes.jobs)
    report(
        f"nothing offered after {withdrawn_s:.1f} s with a grace of {GRACE_S} s (default: "
        f"{Policy().node_grace_s:g} s), nor at the next start; offered again {back_s:.1f} s after there is a node",
        withdrawn_s,
    )
