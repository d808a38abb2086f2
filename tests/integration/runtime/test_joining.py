"""The agent's main job: a machine joins through a real SSH tunnel, stays ready, and leaves cleanly."""

from __future__ import annotations

import os
import signal

from tests.integration.agent_process import children_of
from tests.integration.lab import Lab
from tests.integration.polling import wait_for


def test_a_machine_joins_is_placeable_and_leaves_in_order(lab: Lab) -> None:
    agent = lab.ready_agent()
    assert lab.gateway.status(agent.machine_id) == "ready"
    assert lab.gateway.would_place(agent.machine_id)[0]
    ssh = agent.ssh_pids()
    assert set(ssh) == {"api", "reverse"}

    assert agent.stop() == 0
    assert not lab.gateway.would_place(agent.machine_id)[0]
    assert lab.gateway.status(agent.machine_id) == "registered"
    assert not [pid for pid in ssh.values() if pid in children_of(os.getpid())]


def test_a_killed_ssh_child_is_replaced_without_a_registration(lab: Lab) -> None:
    agent = lab.ready_agent()
    os.kill(agent.ssh_pids()["api"], signal.SIGKILL)
    wait_for("a new api child", lambda: agent.status()["tunnel"]["generation"] == 2)
    agent.wait_back()
    assert agent.status()["registration"]["times"] == 1


def test_a_wiped_gateway_gets_the_same_machine_again(lab: Lab) -> None:
    agent = lab.ready_agent(BETA9_KEEPALIVE_INTERVAL="1")
    lab.gateway.wipe()
    wait_for("registered again", lambda: lab.gateway.status(agent.machine_id) == "ready")
    assert agent.status()["registration"]["times"] == 2


def test_a_gateway_that_is_down_at_the_start_is_waited_for(lab: Lab) -> None:
    lab.gateway.stop_api()
    agent = lab.agent().start()
    wait_for("connecting", lambda: agent.status().get("gateway", {}).get("last_error"))
    lab.gateway.start_api()
    agent.wait_back()
