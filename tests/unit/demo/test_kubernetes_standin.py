"""The stand-in for the Kubernetes API: its answers, and how it can be made to misbehave."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from agent.demo.kubernetes.cluster import Cluster
from agent.demo.kubernetes.standin import StandInKubernetes
from tests.contract.waiting import wait_until

JOBS = "/apis/batch/v1/namespaces/default/jobs"
PODS = "/api/v1/namespaces/default/pods"
NODE = "/api/v1/nodes/demo-node"
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
ACCOUNT = {"metadata": {"name": "beta9-gateway"}}
TOKEN = f"{ACCOUNTS}/beta9-gateway/token"


@pytest.fixture
def api() -> Iterator[StandInKubernetes]:
    with StandInKubernetes(cluster=Cluster(gpus=2)) as running:
        yield running


def ask(  # noqa: PLR0917 - the parts of one request
    api: StandInKubernetes,
    method: str,
    path: str,
    body: Any = None,
    token: str | None = None,
    content_type: str = "application/json",
) -> tuple[int, Any]:
    """Send one request over a new connection, with the certificate verified; return status and body."""
    context = ssl.create_default_context(cadata=api.certificate_pem)
    connection = http.client.HTTPSConnection(api.host, api.port, timeout=30, context=context)
    try:
        headers = {"Authorization": f"Bearer {api.token if token is None else token}"}
        if body is not None:
            headers["Content-Type"] = content_type
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        text = reply.read()
        return reply.status, json.loads(text) if text[:1] in {b"{", b"["} else text
    finally:
        connection.close()


def job(name: str, gpus: int = 1, **labels: str) -> dict[str, Any]:
    limits = {"limits": {"nvidia.com/gpu": str(gpus)}}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "ttlSecondsAfterFinished": 30,
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "worker", "resources": limits}]},
            },
        },
    }


def phases(api: StandInKubernetes) -> list[str]:
    """Return the phase of each pod."""
    return [pod["status"]["phase"] for pod in ask(api, "GET", PODS)[1]["items"]]


def test_it_says_that_it_is_ready_and_which_version_it_is(api: StandInKubernetes) -> None:
    assert ask(api, "GET", "/readyz") == (200, b"ok")
    assert ask(api, "GET", "/version")[1]["major"] == "1"


@pytest.mark.parametrize("token", ["", "wrong", "ü"])
def test_a_token_that_it_does_not_know_is_refused(api: StandInKubernetes, token: str) -> None:
    status, body = ask(api, "GET", "/readyz", token=token.encode().decode("latin-1"))
    assert (status, body["kind"], body["reason"]) == (401, "Status", "Unauthorized")


def test_a_job_gets_a_pod_that_runs_and_both_are_found_by_label(api: StandInKubernetes) -> None:
    assert ask(api, "POST", JOBS, job("a", role="worker"))[0] == 201
    assert ask(api, "POST", JOBS, job("b", role="other"))[0] == 201
    assert ask(api, "POST", JOBS, job("a"))[0] == 409
    listed = ask(api, "GET", f"{JOBS}?labelSelector=role%3Dworker")[1]
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]
    pods = ask(api, "GET", f"{PODS}?labelSelector=job-name=b")[1]["items"]
    assert [pod["status"]["phase"] for pod in pods] == ["Running"]
    assert pods[0]["spec"]["nodeName"] == "demo-node"


def test_a_pod_that_wants_more_gpus_than_are_free_waits_for_them(api: StandInKubernetes) -> None:
    ask(api, "POST", JOBS, job("a", gpus=2))
    ask(api, "POST", JOBS, job("b", gpus=1))
    assert phases(api) == ["Running", "Pending"]
    assert ask(api, "DELETE", f"{JOBS}/a?propagationPolicy=Background")[0] == 200
    assert phases(api) == ["Running"]
    assert ask(api, "GET", f"{JOBS}/a")[0] == 404


def test_a_deleted_pod_is_made_again_by_its_job_after_a_pause_and_waits_on_a_cordoned_node() -> None:
    now_s = [1000.0]
    with StandInKubernetes(clock=lambda: now_s[0]) as api:
        ask(api, "POST", JOBS, job("a"))
        cordon = {"spec": {"unschedulable": True}}
        assert ask(api, "PATCH", NODE, cordon, content_type="application/merge-patch+json")[0] == 200
        assert ask(api, "GET", NODE)[1]["spec"] == {"unschedulable": True}
        name = ask(api, "GET", PODS)[1]["items"][0]["metadata"]["name"]
        assert ask(api, "POST", f"{PODS}/{name}/eviction", {"kind": "Eviction"})[0] == 201
        assert phases(api) == []
        status = ask(api, "GET", f"{JOBS}/a")[1]["status"]
        assert (status.get("active"), status["failed"]) == (None, 1)
        now_s[0] += 9.9
        assert phases(api) == []
        now_s[0] += 0.2
        assert phases(api) == ["Pending"]
        assert ask(api, "GET", f"{PODS}/{name}")[0] == 404
        assert ask(api, "GET", f"{JOBS}/a")[1]["status"]["active"] == 1


def test_the_pods_of_a_deleted_job_keep_the_time_that_they_were_given() -> None:
    now_s = [1000.0]
    with StandInKubernetes(clock=lambda: now_s[0]) as api:
        api.cluster.stop_s = 3600.0
        ask(api, "POST", JOBS, job("a"))
        name = ask(api, "GET", PODS)[1]["items"][0]["metadata"]["name"]
        ask(api, "DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 80})
        ask(api, "DELETE", f"{JOBS}/a", {"propagationPolicy": "Background"})
        now_s[0] += 79
        assert phases(api) == ["Running"]
        now_s[0] += 2
        assert phases(api) == []


def test_a_finished_job_goes_after_its_time() -> None:
    now_s = [1000.0]
    with StandInKubernetes(clock=lambda: now_s[0]) as api:
        ask(api, "POST", JOBS, job("a"))
        api.cluster.finish_job("default", "a", now_s[0])
        assert phases(api) == ["Succeeded"]
        now_s[0] += 30
        assert phases(api) == []


def test_the_node_tells_its_gpus_and_conditions(api: StandInKubernetes) -> None:
    api.cluster.pressures = frozenset({"Disk"})
    (node,) = ask(api, "GET", "/api/v1/nodes")[1]["items"]
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "2"
    conditions = {entry["type"]: entry["status"] for entry in node["status"]["conditions"]}
    assert conditions == {
        "MemoryPressure": "False",
        "DiskPressure": "True",
        "PIDPressure": "False",
        "Ready": "True",
    }
    api.cluster.ready, api.cluster.gpus = False, 0
    node = ask(api, "GET", NODE)[1]
    assert "nvidia.com/gpu" not in node["status"]["allocatable"]
    assert node["status"]["conditions"][-1]["status"] == "Unknown"


def test_a_requested_token_may_do_what_the_gateway_needs_and_nothing_else(api: StandInKubernetes) -> None:
    assert ask(api, "POST", ACCOUNTS, ACCOUNT)[0] == 201
    status, granted = ask(api, "POST", TOKEN, {"spec": {"expirationSeconds": 86400}})
    token = granted["status"]["token"]
    assert status == 201
    assert ask(api, "POST", JOBS, job("a"), token)[0] == 201
    assert ask(api, "GET", PODS, token=token)[0] == 200
    assert ask(api, "GET", "/readyz", token=token)[0] == 200
    forbidden = [
        ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/pods"),
        ("GET", "/apis/batch/v1/jobs"),
        ("GET", "/apis/batch/v1/namespaces/kube-system/jobs"),
        ("GET", "/api/v1/namespaces/default/secrets"),
        ("GET", f"{PODS}/x/log"),
        ("POST", PODS),
        ("POST", TOKEN),
    ]
    assert {ask(api, method, path, token=token)[0] for method, path in forbidden} == {403}


def test_a_requested_token_expires_and_none_is_granted_for_less_than_ten_minutes() -> None:
    now_s = [1000.0]
    with StandInKubernetes(clock=lambda: now_s[0]) as api:
        assert ask(api, "POST", TOKEN, {"spec": {"expirationSeconds": 600}})[0] == 404
        assert ask(api, "POST", ACCOUNTS, ACCOUNT)[0] == 201
        assert ask(api, "POST", TOKEN, {"spec": {"expirationSeconds": 599}})[0] == 422
        token = ask(api, "POST", TOKEN, {"spec": {"expirationSeconds": 600}})[1]["status"]["token"]
        assert ask(api, "GET", JOBS, token=token)[0] == 200
        now_s[0] += 600
        assert ask(api, "GET", JOBS, token=token)[0] == 401


def test_nothing_else_is_there(api: StandInKubernetes) -> None:
    other = "/api/v1/namespaces/default/serviceaccounts/other/token"
    assert ask(api, "POST", other, {})[0] == 404
    assert ask(api, "GET", "/api/v1/nodes/other")[0] == 404
    assert ask(api, "GET", "/apis/apps/v1/deployments")[0] == 404
    assert ask(api, "PUT", f"{JOBS}/a", {})[0] == 405
    assert ask(api, "POST", JOBS, {})[0] == 422
    assert ask(api, "POST", JOBS, [])[0] == 400
    assert ask(api, "POST", JOBS, "x", content_type="application/vnd.kubernetes.protobuf")[0] == 415


def test_the_kubeconfig_holds_what_is_needed(api: StandInKubernetes) -> None:
    config = json.loads(api.kubeconfig())
    cluster = config["clusters"][0]["cluster"]
    assert cluster["server"] == api.url
    assert base64.b64decode(cluster["certificate-authority-data"]).decode() == api.certificate_pem
    assert config["users"][0]["user"]["token"] == api.token


def test_frozen_it_accepts_and_answers_nothing_and_thawed_it_answers_what_came(
    api: StandInKubernetes,
) -> None:
    context = ssl.create_default_context(cadata=api.certificate_pem)
    api.freeze()
    with socket.create_connection((api.host, api.port), timeout=0.2) as raw, pytest.raises(TimeoutError):
        context.wrap_socket(raw, server_hostname=api.host)
    api.thaw()
    assert ask(api, "GET", "/readyz") == (200, b"ok")


def test_frozen_it_does_not_answer_on_a_connection_that_is_open_either(api: StandInKubernetes) -> None:
    context = ssl.create_default_context(cadata=api.certificate_pem)
    connection = http.client.HTTPSConnection(api.host, api.port, timeout=0.3, context=context)
    connection.connect()
    api.freeze()
    connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {api.token}"})
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()


def test_refusing_closes_listener_and_connections_and_listening_takes_the_same_port(
    api: StandInKubernetes,
) -> None:
    port = api.port
    api.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((api.host, port))
    api.listen()
    assert api.port == port
    assert ask(api, "GET", "/readyz") == (200, b"ok")


@pytest.mark.parametrize(("knob", "status"), [("unauthorized", 401), ("too_many", 429), ("failing", 500)])
def test_it_can_answer_with_an_error_to_all(api: StandInKubernetes, knob: str, status: int) -> None:
    setattr(api, knob, True)
    assert ask(api, "GET", "/readyz")[0] == status
    setattr(api, knob, False)
    assert ask(api, "GET", "/readyz")[0] == 200


def test_a_slow_handshake_holds_up_nobody(api: StandInKubernetes) -> None:
    with socket.create_connection((api.host, api.port)):
        assert ask(api, "GET", "/readyz") == (200, b"ok")


def test_it_keeps_a_list_of_what_was_asked(api: StandInKubernetes) -> None:
    ask(api, "GET", JOBS)
    wait_until(lambda: list(api.requests) == [("system:admin", "GET", JOBS)])
