"""modules/crusoe with the real provider, against a stand-in of Crusoe's API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.terraform.crusoe_standin import NETWORKS, RULES, SUBNETS, VMS, CrusoeCloud, crusoe_cloud
from tests.terraform.program import Terraform
from tests.terraform.providers import missing

EXAMPLE = "terraform/examples/crusoe"
pytestmark = [pytest.mark.terraform, pytest.mark.provider]
PROJECT = "5a0a3c5e-2f0f-4a86-9f5e-0d9a3b1c7d21"


@pytest.fixture
def cloud() -> Iterator[CrusoeCloud]:
    with crusoe_cloud() as cloud:
        yield cloud


@pytest.fixture
def real(request: pytest.FixtureRequest, cloud: CrusoeCloud) -> Terraform:
    absent = missing(ROOT / EXAMPLE)
    if absent:
        pytest.skip(
            f"provider {', '.join(sorted(absent))} is not available: set TF_PLUGIN_MIRROR to a mirror with it"
        )
    found: Terraform = request.getfixturevalue("terraform_with_mirror")
    return found.with_environment(
        CRUSOE_API_ENDPOINT=cloud.url,
        CRUSOE_ACCESS_KEY_ID="key",
        CRUSOE_SECRET_KEY="c2VjcmV0",
        CRUSOE_DEFAULT_PROJECT=PROJECT,
    )


@pytest.fixture
def folder(tree: Path, real: Terraform) -> Path:
    real.init(tree / EXAMPLE)
    return tree / EXAMPLE


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    public = tmp_path / "id.pub"
    public.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHH me\n")
    return {
        "type": "a100-80gb.1x",
        "location": "us-east1-a",
        "ssh_public_key_file": str(public),
        "ssh_from": "192.0.2.7/32",
        "pool_name": "gpu",
        "gateway_host": "gateway.example.com",
        "gateway_host_key_fingerprint": "SHA256:" + "A" * 43,
        "source_tarball": "https://example.com/beta9-worker.tar.gz#sha256=" + "0123456789abcdef" * 4,
    }


def requested(cloud: CrusoeCloud, kind: str) -> list[Any]:
    return [body for method, path, body in cloud.requests if method == "POST" and path.endswith(kind)]


def test_created_kept_replaced_and_deleted(
    cloud: CrusoeCloud, folder: Path, real: Terraform, given: Mapping[str, Any], journal: list[str]
) -> None:
    real.apply(folder, given)
    (vm,) = requested(cloud, VMS)
    assert vm["startup_script"].startswith("#!/bin/bash\n")
    assert vm["startup_script"].isascii()
    assert "BETA9_POOL_NAME=gpu" in vm["startup_script"]
    assert "BETA9_DRAIN_TIMEOUT=60" in vm["startup_script"]
    assert "beta9-worker.service" in vm["shutdown_script"]
    assert vm["install_crusoe_watch_agent"] is False
    (subnet,) = cloud.resources[SUBNETS]
    assert [each["subnet"] for each in vm["network_interfaces"]] == [subnet]
    rules = {each["direction"]: each for each in cloud.resources[RULES].values()}
    assert [each["cidr"] for each in rules["egress"]["destinations"]] == ["0.0.0.0/0"]
    assert [each["cidr"] for each in rules["ingress"]["sources"]] == ["192.0.2.7/32"]
    assert rules["ingress"]["destination_ports"] == ["22"]

    assert "No changes" in real.apply(folder, given).output
    assert real.outputs(folder)["ip"] == "127.0.0.1"

    real.apply(folder, {**given, "pool_name": "other"})
    assert len(requested(cloud, VMS)) == 2, "a changed script replaces the VM"
    assert len(cloud.resources[VMS]) == 1

    real.destroy(folder, {**given, "pool_name": "other"})
    assert all(not cloud.resources[kind] for kind in (VMS, NETWORKS, SUBNETS, RULES))
    assert json.loads((folder / "terraform.tfstate").read_text())["resources"] == []
    journal.append("modules/crusoe: applied with the real provider, replaced, destroyed")


def test_an_api_error_while_reading_the_vm_plans_a_second_one(
    cloud: CrusoeCloud, folder: Path, real: Terraform, given: Mapping[str, Any]
) -> None:
    """The pitfall described in the README, and the ways out. If this test fails, the provider may have fixed it."""
    real.apply(folder, given)
    (vm,) = cloud.resources[VMS]
    cloud.vm_read_status = 403
    assert "Plan: 1 to add, 0 to change, 0 to destroy" in real.plan(folder, given).text

    cloud.vm_read_status = 200
    assert "No changes" in real.plan(folder, given).text, (
        "a plan does not write the state, so the VM is still known"
    )

    cloud.vm_read_status = 403
    real.run(folder, "apply", "-refresh-only", "-auto-approve", "-input=false", "-var-file=test.tfvars.json")
    cloud.vm_read_status = 200
    address = "module.worker.crusoe_compute_instance.machine"
    real.run(folder, "import", "-input=false", "-var-file=test.tfvars.json", address, vm)
    assert "must be replaced" in real.plan(folder, given).text, "an import has neither image nor scripts"
    real.destroy(folder, given)
    assert not cloud.resources[VMS]
