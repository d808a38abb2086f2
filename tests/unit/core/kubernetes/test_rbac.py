"""What the gateway may do in this machine's Kubernetes: the same three objects as the manifest, and no more."""

from __future__ import annotations

import copy

import yaml

from agent.core.kubernetes import rbac
from tests import ROOT

MANIFEST = ROOT / "bootstrap" / "manifests" / "beta9-gateway.yaml"


def test_the_manifest_of_the_bootstrap_grants_the_same() -> None:
    written = {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))}
    for _, wanted in rbac.OBJECTS:
        assert rbac.is_as_wanted(written[wanted["kind"]], wanted)


def test_an_object_that_grants_more_is_not_as_wanted() -> None:
    _, role = rbac.OBJECTS[1]
    more = copy.deepcopy(role)
    more["rules"].append({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})
    assert rbac.is_as_wanted({**role, "metadata": {"resourceVersion": "7"}}, role)
    assert not rbac.is_as_wanted(more, role)


def test_a_token_is_asked_for_in_whole_seconds() -> None:
    assert rbac.token_request(86_400.7)["spec"] == {"expirationSeconds": 86_400}
