"""What the gateway's token permits, tried through the tunnel at a real API server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from agent.core.kubernetes import rbac
from tests.integration.lab import AgentProcess, Lab, wait_for
from tests.kubernetes.server import RealKubernetes, ask

pytestmark = pytest.mark.kubernetes

JOBS = "/apis/batch/v1/namespaces/default/jobs"
PODS = "/api/v1/namespaces/default/pods"


def machine_with(lab: Lab, real: RealKubernetes, **tuning: float) -> AgentProcess:
    """Return an agent whose machine has the real API server, and that creates the gateway's token itself."""
    return lab.agent(
        tuning or None,
        BETA9_K3S_API="{}:{}".format(*real.address),
        BETA9_KUBECONFIG=str(real.kubeconfig),
        BETA9_K3S_TOKEN_FILE="",
        BETA9_KEEPALIVE_INTERVAL="1",
    )


def ready_with(lab: Lab, real: RealKubernetes, **tuning: float) -> AgentProcess:
    agent = machine_with(lab, real, **tuning).start()
    agent.wait_back()
    return agent


class Gateway:
    """Calls a machine as the gateway does, with the registered host name and token."""

    def __init__(self, lab: Lab, agent: AgentProcess) -> None:
        self._lab = lab
        self._machine_id = agent.machine_id

    @property
    def token(self) -> str:
        return str(self._machine()["token"])

    @property
    def address(self) -> tuple[str, int]:
        return self._machine()["hostname"], 6443

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return ask(self.address, method, path, body, token=self.token)

    def _machine(self) -> dict[str, Any]:
        machine = self._lab.gateway.machine(self._machine_id)
        assert machine is not None
        return machine


def test_the_worker_job_is_placed_listed_and_deleted_through_the_tunnel(
    lab: Lab, real: RealKubernetes
) -> None:
    agent = ready_with(lab, real, node_interval_s=1)
    gateway = Gateway(lab, agent)
    lab.gateway.set_demand("gpu", 1)
    (worker,) = wait_for("placed", lambda: lab.gateway.workers("gpu"))
    wait_for("counted", lambda: agent.status()["kubernetes"]["node"]["worker_count"] == 1)
    labels = "run.beam.cloud/role=worker,run.beam.cloud/worker-pool-name=gpu"
    code, listed = gateway.ask("GET", f"{JOBS}?labelSelector={labels}")
    assert code == 200
    assert [job["metadata"]["name"] for job in listed["items"]] == [worker["job_name"]]
    pods = gateway.ask("GET", f"{PODS}?labelSelector=job-name={worker['job_name']}")[1]["items"]
    assert len(pods) == 1
    assert gateway.ask("GET", f"{PODS}/{pods[0]['metadata']['name']}")[0] == 200
    lab.gateway.set_demand("gpu", 0)
    background = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    assert gateway.ask("DELETE", f"{JOBS}/{worker['job_name']}", background)[0] == 200
    wait_for("gone", lambda: not gateway.ask("GET", JOBS)[1]["items"])


REFUSED: tuple[tuple[str, str], ...] = (
    ("GET", f"{PODS}/any/log"),
    ("POST", f"{PODS}/any/exec?command=id"),
    ("GET", f"{PODS}/any/exec?command=id"),
    ("POST", f"{PODS}/any/attach"),
    ("POST", f"{PODS}/any/portforward"),
    ("POST", f"{PODS}/any/eviction"),
    ("PUT", f"{PODS}/any/ephemeralcontainers"),
    ("POST", PODS),
    ("DELETE", PODS),
    ("PUT", f"{JOBS}/any"),
    ("PATCH", f"{JOBS}/any"),
    ("PUT", f"{JOBS}/any/status"),
    ("DELETE", JOBS),
    ("GET", "/apis/batch/v1/jobs"),
    ("GET", "/api/v1/pods"),
    ("GET", "/apis/batch/v1/namespaces/kube-system/jobs"),
    ("POST", "/apis/batch/v1/namespaces/kube-system/jobs"),
    ("GET", "/api/v1/namespaces/kube-system/pods"),
    ("GET", "/api/v1/namespaces"),
    ("GET", "/api/v1/namespaces/default/secrets"),
    ("POST", "/api/v1/namespaces/default/secrets"),
    ("GET", "/api/v1/namespaces/kube-system/secrets"),
    ("GET", "/api/v1/namespaces/default/configmaps"),
    ("GET", "/api/v1/namespaces/default/events"),
    ("GET", "/api/v1/nodes"),
    ("GET", "/api/v1/nodes/this-node"),
    ("GET", "/api/v1/nodes/this-node/proxy/metrics"),
    ("PATCH", "/api/v1/nodes/this-node"),
    ("POST", rbac.TOKEN_PATH),
    ("POST", "/api/v1/namespaces/default/serviceaccounts/default/token"),
    ("GET", "/api/v1/namespaces/default/serviceaccounts"),
    ("POST", "/apis/apps/v1/namespaces/default/deployments"),
    ("POST", "/apis/apps/v1/namespaces/default/daemonsets"),
    ("POST", "/apis/batch/v1/namespaces/default/cronjobs"),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings"),
    ("PUT", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles/beta9-gateway"),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ("GET", "/metrics"),
)


def test_everything_else_is_refused(lab: Lab, real: RealKubernetes) -> None:
    gateway = Gateway(lab, ready_with(lab, real))
    answers = {(method, path): gateway.ask(method, path, _body(method))[0] for method, path in REFUSED}
    allowed = {call: code for call, code in answers.items() if code != 403}
    assert not allowed


def _body(method: str) -> dict[str, Any] | None:
    return None if method == "GET" else {}


def test_without_a_valid_token_access_is_denied(lab: Lab, real: RealKubernetes) -> None:
    gateway = Gateway(lab, ready_with(lab, real))
    assert ask(gateway.address, "GET", JOBS)[0] == 401
    assert ask(gateway.address, "GET", "/healthz", token="a.b.c")[0] == 401


def test_the_token_is_renewed_while_the_machine_stays_in_service(
    lab: Lab, real: RealKubernetes, record_property: Callable[[str, object], None]
) -> None:
    agent = ready_with(lab, real, kube_renew_s=4)
    gateway = Gateway(lab, agent)
    first, registered = gateway.token, len(_requests(lab, agent, "register"))
    wait_for("the gateway has a new token", lambda: gateway.token != first)
    again = _requests(lab, agent, "register")[registered]["at_s"]
    kept = wait_for("a keepalive", lambda: [at for at in _ok_at(lab, agent, "keepalive") if at >= again])
    record_property("ready again after_s", round(kept[0] - again, 3))
    assert kept[0] - again < 1 + _slow_s()
    assert ask(gateway.address, "GET", JOBS, token=first)[0] == 200, (
        "the old token stays valid until it expires"
    )
    assert gateway.ask("GET", JOBS)[0] == 200
    assert agent.is_back()
    logs = "\n".join(agent.lines)
    assert first not in logs
    assert gateway.token not in logs


def _requests(lab: Lab, agent: AgentProcess, route: str) -> list[dict[str, Any]]:
    return lab.gateway.requests(route, agent.machine_id)


def _ok_at(lab: Lab, agent: AgentProcess, route: str) -> list[float]:
    return [each["at_s"] for each in _requests(lab, agent, route) if each["status"] == 200]


def _slow_s() -> float:
    """Return the extra seconds allowed on a machine with more load than processors."""
    return 2.0 * os.getloadavg()[0] / (os.cpu_count() or 1)


def test_a_frozen_api_server_does_not_block_other_machines_of_the_pool(
    lab: Lab, real: RealKubernetes, record_property: Callable[[str, object], None]
) -> None:
    sick, well = ready_with(lab, real), lab.ready_agent(BETA9_KEEPALIVE_INTERVAL="1")
    lab.gateway.set_demand("gpu", 2)
    wait_for("one worker on each", lambda: _placed(lab) == {sick.machine_id: 1, well.machine_id: 1})
    address = Gateway(lab, sick).address
    real.freeze()
    began_s = time.monotonic()
    wait_for("its address refuses connections", lambda: _is_refused(address))
    refused_s = time.monotonic() - began_s
    record_property("refused after_s", round(refused_s, 1))
    assert refused_s < 10 + _slow_s()
    for _ in range(2):
        (job,) = lab.kubernetes.jobs()
        before = _placed(lab)[well.machine_id]
        lab.kubernetes.finish_job(job["metadata"]["name"])
        standin = Gateway(lab, well)
        assert standin.ask("DELETE", f"{JOBS}/{job['metadata']['name']}")[0] == 200
        wait_for("the other machine gets the next job", lambda: _placed(lab)[well.machine_id] > before)  # noqa: B023
    assert lab.gateway.status(sick.machine_id) == "ready", "its lease is kept meanwhile"
    real.thaw()
    sick.wait_back()
    assert Gateway(lab, sick).ask("GET", JOBS)[0] == 200


def _placed(lab: Lab) -> dict[str, int]:
    machines = lab.gateway.placement()["gpu"]["machines"]
    return {machine_id: counters["placed"] for machine_id, counters in machines.items()}


def _is_refused(address: tuple[str, int]) -> bool:
    try:
        ask(address, "GET", "/healthz")
    except ConnectionError:
        return True
    except OSError:  # it still hangs
        return False
    return False
