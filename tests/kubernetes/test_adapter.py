"""The Kubernetes adapter, against both the stand-in and a real API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.adapters.kubernetes.api import Api
from agent.adapters.kubernetes.drain import Drain
from agent.adapters.kubernetes.local import Cluster, LocalKubernetes
from agent.adapters.kubernetes.token import GatewayToken
from agent.core.events import Answer, NodeCordoned
from agent.core.host.facts import NodeFacts
from agent.core.kubernetes import rbac
from agent.errors import SettingsError
from tests import ROOT
from tests.integration.lab import wait_for
from tests.kubernetes.server import RealKubernetes
from tests.kubernetes.standin import StandIn

Kube = RealKubernetes | StandIn
JOBS = "/apis/batch/v1/namespaces/default/jobs"
PODS = "/api/v1/namespaces/default/pods"
LABELS = {"run.beam.cloud/role": "worker"}
TIMEOUT_S = 20.0


def worker_job(name: str, gpus: int = 1) -> dict[str, Any]:
    """Return a worker's Job, reduced to the fields that the adapter reads."""
    container = {"name": "worker", "image": "worker", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    pod = {"restartPolicy": "OnFailure", "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": LABELS},
        "spec": {"template": {"metadata": {"labels": LABELS}, "spec": pod}},
    }


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def now_s(self) -> float:
        return self.now


class Subject:
    """An adapter for one API, with a clock that the test sets."""

    def __init__(self, api: Kube, kubeconfig: Path | None = None, given: str | None = None) -> None:
        self.clock = Clock()
        self.secrets: list[str] = []
        self.api = Api(kubeconfig or api.kubeconfig, self.secrets.append)
        self.token = GatewayToken(self.api, 86_400, 43_200, self.secrets.append, self.clock.now_s)
        self.cluster = Cluster(self.api, self.token, 10, lambda: "this-host", self.clock.now_s)
        self.kubernetes = LocalKubernetes(*api.address, lambda _: given, self.cluster)

    def node(self) -> NodeFacts:
        """Return the current state of the node."""
        self.clock.now += 11
        found = self.kubernetes.probe(TIMEOUT_S)
        assert found.node is not None, found
        return found.node

    def ready(self) -> Subject:
        """Wait until the API accepts the gateway's token: a real server takes a moment to apply a new Role."""
        wait_for("it answers", lambda: self.kubernetes.probe(TIMEOUT_S).probe.answer is Answer.ANSWERED)
        return self


@pytest.fixture
def subject(api: Kube) -> Subject:
    return Subject(api)


def test_a_token_is_created_with_a_service_account_and_its_role(api: Kube, subject: Subject) -> None:
    subject.ready()
    token = subject.kubernetes.token()
    assert token is not None
    assert token in subject.secrets, "the token must be redacted from logs"
    assert api.ask("GET", JOBS, token=token)[0] == 200
    assert api.ask("GET", "/api/v1/nodes", token=token)[0] == 403
    for path, wanted in rbac.OBJECTS:
        code, found = api.ask("GET", f"{path}/{wanted['metadata']['name']}")
        assert code == 200
        assert rbac.is_as_wanted(found, wanted)


def test_a_token_is_renewed_at_half_its_lifetime_and_the_old_one_stays_valid(
    api: Kube, subject: Subject
) -> None:
    subject.ready()
    first, serial = subject.kubernetes.token(), subject.kubernetes.probe(TIMEOUT_S).token_serial
    subject.clock.now += 43_199
    assert subject.kubernetes.probe(TIMEOUT_S).token_serial == serial
    subject.clock.now += 2
    assert subject.kubernetes.probe(TIMEOUT_S).token_serial == serial + 1
    second = subject.kubernetes.token()
    assert second != first
    assert {api.ask("GET", JOBS, token=token)[0] for token in (first, second)} == {200}


def test_a_deleted_service_account_is_recreated_with_a_new_token(api: Kube, subject: Subject) -> None:
    subject.ready()
    before = subject.kubernetes.token()
    path, account = rbac.OBJECTS[0]
    assert api.ask("DELETE", f"{path}/{account['metadata']['name']}")[0] == 200
    if isinstance(api, StandIn):
        api.served.revoke_granted()  # a real server does so by itself, after its cache's ten seconds
    wait_for(
        "a new token that works",
        lambda: (
            subject.kubernetes.probe(TIMEOUT_S).probe.answer is Answer.ANSWERED
            and subject.kubernetes.token() != before
        ),
    )


def test_a_modified_role_is_corrected_with_the_next_token(api: Kube, subject: Subject) -> None:
    subject.ready()
    path, role = rbac.OBJECTS[1]
    more = {**role, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]}
    assert api.ask("PUT", f"{path}/{role['metadata']['name']}", more)[0] == 200
    subject.clock.now += 43_201
    subject.ready()
    assert rbac.is_as_wanted(api.ask("GET", f"{path}/{role['metadata']['name']}")[1], role)


def test_a_given_token_is_used_unchanged(api: Kube, subject: Subject) -> None:
    subject.ready()
    given = subject.kubernetes.token()
    other = Subject(api, given=given).ready()
    assert other.kubernetes.token() == given
    assert other.token.granted is None
    assert other.node().ready


def test_workers_and_their_gpus_are_counted(api: Kube, subject: Subject) -> None:
    api.set_node(gpus=4)
    subject.ready()
    for name in ("one", "two"):
        assert api.ask("POST", JOBS, worker_job(name))[0] == 201
    wait_for("both hold a GPU", lambda: subject.node().gpus_requested == 2)
    node = subject.node()
    assert (node.worker_count, node.container_count, node.gpus_allocatable) == (2, 2, 4)


def test_a_cordoned_node_gets_no_pod_until_it_is_uncordoned(api: Kube, subject: Subject) -> None:
    subject.ready()
    drain = Drain(subject.cluster)
    assert drain.cordon(is_cordoned=True, timeout_s=TIMEOUT_S) == NodeCordoned(is_cordoned=True)
    assert not subject.node().schedulable
    assert api.ask("POST", JOBS, worker_job("later"))[0] == 201
    wait_for("its pod exists", lambda: api.ask("GET", PODS)[1]["items"])
    assert subject.node().worker_count == 0
    assert drain.cordon(is_cordoned=False, timeout_s=TIMEOUT_S) == NodeCordoned(is_cordoned=False)
    wait_for("it is scheduled on the node", lambda: subject.node().worker_count == 1)


def test_an_administrator_s_cordon_is_not_undone(api: Kube, subject: Subject) -> None:
    subject.ready()
    node = f"/api/v1/nodes/{subject.cluster.node_name}"
    merge = "application/merge-patch+json"
    assert api.ask("PATCH", node, {"spec": {"unschedulable": True}}, content=merge)[0] == 200
    drain = Drain(subject.cluster)
    assert drain.cordon(is_cordoned=True, timeout_s=TIMEOUT_S).error is None
    assert drain.cordon(is_cordoned=False, timeout_s=TIMEOUT_S).error is None
    assert not subject.node().schedulable


def test_workers_are_counted_and_deleted_with_a_grace_period(api: Kube, subject: Subject) -> None:
    subject.ready()
    assert api.ask("POST", JOBS, worker_job("ending"))[0] == 201
    wait_for("it runs here", lambda: subject.node().worker_count == 1)
    drain, pod = Drain(subject.cluster), api.ask("GET", PODS)[1]["items"][0]["metadata"]
    assert drain.list_workers(1, TIMEOUT_S).count == 1
    assert drain.end_workers(2, 7, TIMEOUT_S).error is None
    code, found = api.ask("GET", f"{PODS}/{pod['name']}")
    # A real server waits for the kubelet to end the containers; the stand-in has none to wait for.
    assert code == 404 or found["metadata"]["deletionGracePeriodSeconds"] == 7


def test_deleting_workers_by_force_deletes_their_jobs(api: Kube, subject: Subject) -> None:
    subject.ready()
    assert api.ask("POST", JOBS, worker_job("forced"))[0] == 201
    wait_for("it runs here", lambda: subject.node().worker_count == 1)
    assert Drain(subject.cluster).end_workers(1, 0, TIMEOUT_S).error is None
    wait_for("neither Job nor pod is left", lambda: not _remaining(api))


@pytest.mark.kubernetes
def test_a_job_whose_worker_has_ended_does_not_bring_it_back(real: RealKubernetes) -> None:
    """Field case A1: once its pod is deleted, a Job has none for ten seconds and then creates another."""
    api, subject = real, Subject(real)
    subject.ready()
    assert api.ask("POST", JOBS, worker_job("returning"))[0] == 201
    wait_for("it runs here", lambda: subject.node().worker_count == 1)
    drain, pod = Drain(subject.cluster), api.ask("GET", PODS)[1]["items"][0]["metadata"]
    assert api.ask("DELETE", f"{PODS}/{pod['name']}", {"gracePeriodSeconds": 0})[0] == 200
    wait_for("the Job has no pod", lambda: not _job(api, "returning")["status"].get("active"))
    assert drain.end_workers(1, 0, TIMEOUT_S).error is None
    assert _job(api, "returning") == {}


def _job(api: Kube, name: str) -> dict[str, Any]:
    """Return the Job, or {} if it does not exist."""
    code, found = api.ask("GET", f"{JOBS}/{name}")
    return found if code == 200 else {}


def _remaining(api: Kube) -> list[Any]:
    return [*api.ask("GET", JOBS)[1]["items"], *api.ask("GET", PODS)[1]["items"]]


def test_a_frozen_api_is_reported_as_silent_within_the_timeout(api: Kube, subject: Subject) -> None:
    subject.ready()
    subject.clock.now += 11
    api.freeze()
    assert subject.kubernetes.probe(0.5).probe.answer is Answer.SILENT
    api.thaw()
    subject.ready()


def test_a_login_without_administrator_rights_is_reported(
    api: Kube, subject: Subject, tmp_path: Path
) -> None:
    subject.ready()
    config = json.loads(api.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": subject.kubernetes.token()}
    weak = tmp_path / "weak"
    weak.write_text(yaml.safe_dump(config))
    found = Subject(api, kubeconfig=weak).kubernetes.probe(TIMEOUT_S)
    assert found.probe.answer is Answer.DENIED
    assert "BETA9_KUBECONFIG" in found.probe.text


def test_a_changed_kubeconfig_is_read_again(api: Kube, tmp_path: Path) -> None:
    path = tmp_path / "changing"
    path.write_text("no: kubeconfig\n")
    subject = Subject(api, kubeconfig=path)
    found = subject.kubernetes.probe(TIMEOUT_S)
    assert found.probe.answer is Answer.DENIED
    assert str(path) in found.probe.text
    path.write_text(api.kubeconfig.read_text())
    subject.ready()


def test_a_missing_kubeconfig_is_named_in_the_error(api: Kube, tmp_path: Path) -> None:
    subject = Subject(api, kubeconfig=tmp_path / "missing")
    with pytest.raises(SettingsError, match="missing"), subject.api.session(1):
        pass


def test_the_manifest_matches_what_the_agent_creates() -> None:
    manifest = ROOT / "bootstrap" / "manifests" / "beta9-gateway.yaml"
    assert list(yaml.safe_load_all(manifest.read_text())) == [wanted for _, wanted in rbac.OBJECTS]
