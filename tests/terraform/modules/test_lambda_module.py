"""modules/lambda with the real provider Mastercard/restapi, against a stand-in of Lambda's API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.terraform.lambda_standin import KEY, LambdaCloud, lambda_cloud
from tests.terraform.program import Terraform
from tests.terraform.providers import missing

EXAMPLE = "terraform/examples/lambda"
pytestmark = [pytest.mark.terraform, pytest.mark.provider]
NEW = "-replace=module.worker.terraform_data.launch"


@pytest.fixture
def cloud() -> Iterator[LambdaCloud]:
    with lambda_cloud() as cloud:
        yield cloud


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Terraform:
    absent = missing(ROOT / EXAMPLE)
    if absent:
        pytest.skip(
            f"provider {', '.join(sorted(absent))} is not available: set TF_PLUGIN_MIRROR to a mirror with it"
        )
    found: Terraform = request.getfixturevalue("terraform_with_mirror")
    return found.with_environment(REST_API_BEARER=KEY)


@pytest.fixture
def folder(tree: Path, real: Terraform) -> Path:
    real.init(tree / EXAMPLE)
    return tree / EXAMPLE


@pytest.fixture
def given(cloud: LambdaCloud) -> dict[str, Any]:
    return {
        "api_url": cloud.url,
        "region": "us-west-1",
        "instance_type": "gpu_1x_a10",
        "ssh_key_name": "mine",
        "pool_name": "gpu",
        "gateway_host": "gateway.example.com",
        "gateway_host_key_fingerprint": "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "source_tarball": "https://example.com/beta9-worker.tar.gz#sha256=" + "0123456789abcdef" * 4,
    }


def launches(cloud: LambdaCloud) -> list[Any]:
    return [body for method, path, body in cloud.requests if path.endswith("/launch") and method == "POST"]


def test_launched_kept_replaced_and_terminated(
    cloud: LambdaCloud, folder: Path, real: Terraform, given: Mapping[str, Any], journal: list[str]
) -> None:
    real.apply(folder, given)
    (request,) = launches(cloud)
    assert request["user_data"].startswith("#cloud-config\n")
    assert request["ssh_key_names"] == ["mine"]
    (tag,) = (each["value"] for each in request["tags"] if each["key"] == "beta9-machine")
    assert f"BETA9_HOST_KEY_NONCE={tag}" in request["user_data"]
    (first,) = cloud.running()

    real.apply(folder, given)
    assert cloud.running() == [first], "without a change it is the same machine"
    assert real.outputs(folder)["ip"] == "127.0.0.1"

    real.apply(folder, {**given, "region": "us-east-1"})
    assert len(launches(cloud)) == 2
    assert cloud.machines[first]["status"] == "terminated"

    real.destroy(folder, {**given, "region": "us-east-1"})
    assert cloud.running() == []
    assert json.loads((folder / "terraform.tfstate").read_text())["resources"] == []
    journal.append("modules/lambda: applied with the real restapi provider, replaced, destroyed")


def test_a_machine_that_vanished_is_an_error_that_says_what_to_do(
    cloud: LambdaCloud, folder: Path, real: Terraform, given: Mapping[str, Any]
) -> None:
    real.apply(folder, given)
    cloud.vanish(*cloud.running())
    planned = real.plan(folder, given, check=False)
    assert planned.code == 1
    assert "The machine is gone" in planned.text
    options = ["-input=false", "-no-color", "-auto-approve", "-var-file=test.tfvars.json"]
    real.run(folder, "apply", *options, NEW)
    (second,) = cloud.running()
    cloud.vanish(second)
    real.destroy(folder, given)


def test_a_preempted_machine_is_an_error(
    cloud: LambdaCloud, folder: Path, real: Terraform, given: Mapping[str, Any]
) -> None:
    real.apply(folder, given)
    (machine,) = cloud.running()
    cloud.machines[machine]["status"] = "preempted"
    planned = real.plan(folder, given, check=False)
    assert "The machine is gone" in planned.text
    real.destroy(folder, given)


def test_destroy_terminates_a_machine_whose_launch_response_was_lost(
    cloud: LambdaCloud, folder: Path, real: Terraform, given: Mapping[str, Any]
) -> None:
    cloud.faults.response_lost.add("/launch")
    assert real.apply(folder, given, check=False).code == 1
    assert len(cloud.running()) == 1, "the machine runs, and Terraform does not know its id"
    assert len(launches(cloud)) == 1, "a launch is never repeated"
    real.destroy(folder, given)
    assert cloud.running() == []


def test_destroy_terminates_a_machine_whose_apply_was_interrupted(
    cloud: LambdaCloud, folder: Path, real: Terraform, given: Mapping[str, Any]
) -> None:
    """Interrupted after the launch, before the step that terminates by id; restapi's own destroy terminates nothing."""
    real.apply(folder, given)
    real.run(folder, "state", "rm", "module.worker.module.ending_by_id.terraform_data.ending")
    real.destroy(folder, given)
    assert cloud.running() == []


def test_a_failed_destroy_keeps_everything_in_the_state(
    cloud: LambdaCloud, folder: Path, real: Terraform, given: Mapping[str, Any]
) -> None:
    real.apply(folder, given)
    cloud.faults.terminate_status = 500
    assert real.destroy(folder, given, check=False).code == 1
    listed = real.run(folder, "state", "list").output
    assert "restapi_object.machine" in listed
    assert "ending_by_id" in listed
    cloud.faults.terminate_status = 0
    real.destroy(folder, given)
    assert cloud.running() == []


def test_the_key_is_in_no_state_and_no_plan(
    cloud: LambdaCloud, folder: Path, real: Terraform, given: Mapping[str, Any]
) -> None:
    real.plan(folder, given)
    assert KEY not in str(real.shown(folder))
    real.apply(folder, given)
    for each in folder.glob("*"):
        assert not each.is_file() or KEY.encode() not in each.read_bytes(), each
    real.destroy(folder, given)
