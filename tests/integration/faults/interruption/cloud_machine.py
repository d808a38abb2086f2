"""Machines on a cloud, for tests of interruption notices and drains.

The metadata service is a stand-in (see its docstring); agent, ssh and sshd are real. Scaled: a notice comes NOTICE_S in
advance instead of 120 s, and workers get until FORCE_S before the end instead of 20 s.
"""

from __future__ import annotations

import time
from typing import Any

from tests.integration.agent_process import AgentProcess
from tests.integration.lab import Lab
from tests.integration.metadata_service import MetadataService
from tests.integration.polling import wait_for

NOTICE_S = 30
FORCE_S = 15
NEVER_S = 3600.0
"""How long a worker that ignores its termination takes to stop."""
TUNING = {"force_before_s": FORCE_S, "node_interval_s": 1}


def ready_in(lab: Lab, cloud: MetadataService, **settings: str) -> AgentProcess:
    """Start a machine on that cloud and wait until it is READY and offers capacity."""
    return lab.ready_agent(TUNING, **settings_in(lab, cloud), **settings)


def settings_in(lab: Lab, cloud: MetadataService) -> dict[str, str]:
    """Return the settings of a machine on that cloud."""
    return {
        "BETA9_INTERRUPTION": "auto",
        "BETA9_METADATA_ENDPOINT": cloud.url,
        "BETA9_KUBECONFIG": str(lab.kubeconfig),
        "BETA9_KEEPALIVE_INTERVAL": "1",
    }


def would_place(lab: Lab, agent: AgentProcess) -> bool:
    """Whether the gateway would place another worker on the machine."""
    return bool(lab.gateway.would_place(agent.machine_id)[0])


def withdrawn_after_s(lab: Lab, agent: AgentProcess, began_s: float) -> float:
    """Wait until the gateway would place nothing more; return the seconds since `began_s`."""
    wait_for("nothing can be placed", lambda: not would_place(lab, agent))
    return time.monotonic() - began_s


def place_worker(lab: Lab, agent: AgentProcess, stop_s: float) -> str:
    """Let the gateway place a worker that takes `stop_s` to terminate; return its pod's name."""
    lab.kubernetes.set_node(stop_s=stop_s)
    lab.gateway.set_demand("gpu", 1)
    pods = wait_for("a worker runs", lambda: [pod for pod in lab.kubernetes.pods() if is_pod_running(pod)])
    lab.gateway.set_demand("gpu", 5)
    wait_for("the agent sees it", lambda: agent.status()["kubernetes"]["node"]["worker_count"] >= 1)
    return str(pods[0]["metadata"]["name"])


def is_pod_running(pod: dict[str, Any]) -> bool:
    return bool(pod["status"]["phase"] == "Running")


def running_pods(lab: Lab) -> int:
    """Return how many workers run on the machine."""
    return sum(map(is_pod_running, lab.kubernetes.pods()))


def drain_steps(agent: AgentProcess) -> list[str]:
    """Return the phases of the drain that the agent has logged, in order."""
    return [each["step"] for each in agent.events("drain")]
