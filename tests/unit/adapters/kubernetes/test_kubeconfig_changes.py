"""Files with logins that appear, change and disappear while the agent runs: real files, a stand-in for k3s."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.kubernetes import kubeconfig
from agent.adapters.kubernetes.api import Api
from agent.adapters.kubernetes.connect import open_kubernetes
from agent.adapters.kubernetes.drain import Drain
from agent.adapters.kubernetes.local import NO_TOKEN, LocalKubernetes
from agent.adapters.secrets.credentials import Credentials
from agent.core.events import Answer
from agent.core.text.redaction import Redactor
from agent.demo.kubernetes.api_routes import ADMIN
from agent.demo.kubernetes.standin import StandInKubernetes
from agent.errors import SettingsError
from tests.unit.settings_cases import read, with_

TIMEOUT_S = 10.0


@pytest.fixture
def api() -> Iterator[StandInKubernetes]:
    with StandInKubernetes() as served:
        yield served


@pytest.fixture
def k3s_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of k3s' own kubeconfig, moved into the test's directory; the file does not exist yet."""
    path = tmp_path / "rancher" / "k3s.yaml"
    monkeypatch.setattr(kubeconfig, "K3S_PATH", path)
    return path


def write_kubeconfig(path: Path, api: StandInKubernetes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(api.kubeconfig())


def open_with(tmp_path: Path, api: StandInKubernetes, **variables: str) -> LocalKubernetes:
    settings = read(with_(BETA9_K3S_API=f"{api.host}:{api.port}", **variables))
    return open_kubernetes(settings, Credentials(settings, tmp_path, Redactor()))


def test_k3s_own_kubeconfig_is_looked_for_with_each_probe(
    tmp_path: Path, api: StandInKubernetes, k3s_yaml: Path
) -> None:
    kubernetes = open_with(tmp_path, api)
    probed = kubernetes.probe(TIMEOUT_S)
    assert (probed.probe.answer, probed.probe.text) == (Answer.DENIED, NO_TOKEN)
    assert probed.logins is not None
    assert (probed.logins.has_token, probed.logins.administers) == (False, False)

    write_kubeconfig(k3s_yaml, api)
    probed = kubernetes.probe(TIMEOUT_S)
    assert probed.probe.answer is Answer.ANSWERED
    assert probed.logins is not None
    assert (probed.logins.has_token, probed.logins.administers, probed.token_serial) == (True, True, 1)
    assert probed.node is not None

    k3s_yaml.unlink()
    probed = kubernetes.probe(TIMEOUT_S)
    assert probed.probe.answer is Answer.ANSWERED, "the granted token works for as long as k3s accepts it"
    assert probed.logins is not None
    assert (probed.logins.has_token, probed.logins.administers) == (True, False)
    assert str(k3s_yaml) in (probed.error or "")

    api.revoke_granted()
    probed = kubernetes.probe(TIMEOUT_S)
    assert probed.probe.answer is Answer.DENIED
    assert str(k3s_yaml) in probed.probe.text

    write_kubeconfig(k3s_yaml, api)
    probed = kubernetes.probe(TIMEOUT_S)
    assert (probed.probe.answer, probed.token_serial, probed.error) == (Answer.ANSWERED, 2, None)


def test_a_kubeconfig_that_is_named_is_missed_from_the_start(tmp_path: Path, api: StandInKubernetes) -> None:
    path = tmp_path / "named" / "kubeconfig"
    kubernetes = open_with(tmp_path, api, BETA9_KUBECONFIG=str(path))
    probed = kubernetes.probe(TIMEOUT_S)
    assert str(path) in probed.probe.text
    assert probed.logins is not None
    assert (probed.logins.has_token, probed.logins.administers) == (True, False)
    write_kubeconfig(path, api)
    assert kubernetes.probe(TIMEOUT_S).probe.answer is Answer.ANSWERED


def test_a_token_is_not_taken_for_one_of_another_cluster(
    tmp_path: Path, api: StandInKubernetes, k3s_yaml: Path
) -> None:
    write_kubeconfig(k3s_yaml, api)
    kubernetes = open_with(tmp_path, api)
    before = kubernetes.probe(TIMEOUT_S)
    old = kubernetes.token()
    assert kubernetes.cluster is not None
    assert kubernetes.cluster.node_name is not None
    api.stop()
    with StandInKubernetes(port=api.port) as anew:
        assert kubernetes.probe(TIMEOUT_S).probe.answer is Answer.DENIED, (
            "the kubeconfig is still the old one"
        )
        write_kubeconfig(k3s_yaml, anew)
        after = kubernetes.probe(TIMEOUT_S)
        assert after.probe.answer is Answer.ANSWERED
        assert after.token_serial == before.token_serial + 1, (
            "the token is sent to the gateway if this changes"
        )
        assert after.logins is not None
        assert before.logins is not None
        assert after.logins.cluster == before.logins.cluster + 1
        assert kubernetes.token() not in {old, None}
        assert (ADMIN, "GET", "/api/v1/nodes") in anew.requests, "the node is read again with the same probe"


def test_until_another_cluster_has_made_one_there_is_no_token(
    tmp_path: Path, api: StandInKubernetes, k3s_yaml: Path
) -> None:
    write_kubeconfig(k3s_yaml, api)
    kubernetes = open_with(tmp_path, api)
    kubernetes.probe(TIMEOUT_S)
    with StandInKubernetes() as other:
        write_kubeconfig(k3s_yaml, other)
        assert kubernetes.cluster is not None
        kubernetes.cluster.refresh()
        assert kubernetes.token() is None
        assert kubernetes.cluster.node_name is None


def test_another_login_for_the_same_cluster_costs_no_token(
    tmp_path: Path, api: StandInKubernetes, k3s_yaml: Path
) -> None:
    write_kubeconfig(k3s_yaml, api)
    kubernetes = open_with(tmp_path, api)
    before = kubernetes.probe(TIMEOUT_S)
    config = json.loads(api.kubeconfig())
    config["users"][0]["name"] = config["contexts"][0]["context"]["user"] = "renewed"
    k3s_yaml.write_text(json.dumps(config))
    after = kubernetes.probe(TIMEOUT_S)
    assert (after.token_serial, after.logins) == (before.token_serial, before.logins)


def test_files_that_a_kubeconfig_names_are_read_again_too(tmp_path: Path, api: StandInKubernetes) -> None:
    config = json.loads(api.kubeconfig())
    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    config["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt"
    config["users"][0]["user"] = {"tokenFile": "token"}
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    (tmp_path / "ca.crt").write_text(api.certificate_pem)
    (tmp_path / "token").write_text("wrong\n")
    kubernetes = open_with(tmp_path, api, BETA9_KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert kubernetes.probe(TIMEOUT_S).probe.answer is Answer.DENIED
    (tmp_path / "token").write_text(api.token)
    assert kubernetes.probe(TIMEOUT_S).probe.answer is Answer.ANSWERED
    (tmp_path / "ca.crt").unlink()
    probed = kubernetes.probe(TIMEOUT_S)
    assert "cannot be read" in (probed.error or "")


def test_a_kubeconfig_that_is_half_written_is_read_again(tmp_path: Path, api: StandInKubernetes) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(api.kubeconfig()[:40])
    administrator = Api(path, lambda _: None)
    with pytest.raises(SettingsError):
        administrator.refresh()
    path.write_text(api.kubeconfig())
    administrator.refresh()
    assert administrator.cluster == (api.host, api.port, api.certificate_pem)


def test_a_node_is_cordoned_with_a_kubeconfig_that_came_later(
    tmp_path: Path, api: StandInKubernetes, k3s_yaml: Path
) -> None:
    kubernetes = open_with(tmp_path, api)
    assert kubernetes.cluster is not None
    drain = Drain(kubernetes.cluster)
    kubernetes.probe(TIMEOUT_S)
    assert str(k3s_yaml) in (drain.cordon(is_cordoned=True, timeout_s=TIMEOUT_S).error or "")
    write_kubeconfig(k3s_yaml, api)
    kubernetes.probe(TIMEOUT_S)
    assert drain.cordon(is_cordoned=True, timeout_s=TIMEOUT_S).error is None
    assert api.cluster.unschedulable


def test_a_certificate_that_k3s_renews_while_it_runs_is_its_own(
    tmp_path: Path, api: StandInKubernetes, k3s_yaml: Path
) -> None:
    write_kubeconfig(k3s_yaml, api)
    kubernetes = open_with(tmp_path, api)
    kubernetes.probe(TIMEOUT_S)
    token = kubernetes.token()
    with StandInKubernetes(token=token or "") as stranger:
        address = (stranger.host, stranger.port)
        assert kubernetes.probe_at(address, TIMEOUT_S).answer is Answer.DENIED
        assert not stranger.requests, "the token is never sent to it"
    api.stop()
    with StandInKubernetes(port=api.port, token=token or "") as renewed:
        assert kubernetes.probe_at((renewed.host, renewed.port), TIMEOUT_S).answer is Answer.ANSWERED
