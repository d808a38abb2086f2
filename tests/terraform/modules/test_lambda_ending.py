"""modules/lambda-ending, applied and destroyed: a machine leaves the state only once it is terminated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.terraform.lambda_standin import KEY, LambdaCloud, lambda_cloud
from tests.terraform.program import Terraform

pytestmark = pytest.mark.terraform

REQUEST = {"region_name": "us-west-1", "instance_type_name": "gpu_1x_a10", "ssh_key_names": ["mine"]}
TAG = "7d5c0f3e-1b0c-4a60-8f5f-9d1c8f0a2b77"


@pytest.fixture
def cloud() -> Iterator[LambdaCloud]:
    with lambda_cloud() as cloud:
        yield cloud


@pytest.fixture
def folder(tree: Path, terraform: Terraform) -> Path:
    folder = tree / "terraform/modules/lambda-ending"
    terraform.init(folder)
    return folder


@pytest.fixture
def with_key(terraform: Terraform) -> Terraform:
    return terraform.with_environment(REST_API_BEARER=KEY)


def inputs(cloud: LambdaCloud, **more: str) -> dict[str, object]:
    return {"api_url": cloud.url, "timeout_s": 5, **more}


def is_in_state(terraform: Terraform, folder: Path) -> bool:
    return "terraform_data.ending" in terraform.run(folder, "state", "list").output


def test_destroy_terminates_the_machine_and_then_removes_it_from_the_state(
    cloud: LambdaCloud, folder: Path, with_key: Terraform, journal: list[str]
) -> None:
    machine, other = cloud.launch(REQUEST), cloud.launch(REQUEST)
    variables = inputs(cloud, instance_id=machine)
    with_key.apply(folder, variables)
    assert cloud.requests == [], "no request is sent before destroy"
    done = with_key.destroy(folder, variables)
    assert f"{machine} is terminated" in done.output
    assert cloud.machines[machine]["status"] == "terminated"
    assert cloud.running() == [other]
    assert not is_in_state(with_key, folder)
    journal.append(
        "modules/lambda-ending: applied, destroyed, the stand-in reported the machine as terminated"
    )


@pytest.mark.parametrize("status", [401, 500])
def test_a_failed_destroy_keeps_the_machine_in_the_state(
    cloud: LambdaCloud, folder: Path, with_key: Terraform, status: int
) -> None:
    machine = cloud.launch(REQUEST)
    variables = inputs(cloud, instance_id=machine)
    with_key.apply(folder, variables)
    cloud.faults.terminate_status = status
    done = with_key.destroy(folder, variables, check=False)
    assert done.code == 1
    assert "it may still run and accrue charges" in done.text
    assert is_in_state(with_key, folder)
    cloud.faults.terminate_status = 0
    with_key.destroy(folder, variables)
    assert cloud.running() == []
    assert not is_in_state(with_key, folder)


def test_without_an_api_key_destroy_fails_and_says_why(
    cloud: LambdaCloud, folder: Path, terraform: Terraform, with_key: Terraform
) -> None:
    machine = cloud.launch(REQUEST)
    variables = inputs(cloud, instance_id=machine)
    with_key.apply(folder, variables)
    done = terraform.destroy(folder, variables, check=False)
    assert done.code == 1
    assert "REST_API_BEARER holds no valid API key" in done.text
    assert is_in_state(terraform, folder)
    assert cloud.running() == [machine]


def test_a_machine_that_no_longer_exists_is_removed_from_the_state(
    cloud: LambdaCloud, folder: Path, with_key: Terraform
) -> None:
    machine = cloud.launch(REQUEST)
    variables = inputs(cloud, instance_id=machine)
    with_key.apply(folder, variables)
    cloud.vanish(machine)
    assert "no longer exists" in with_key.destroy(folder, variables).output
    assert not is_in_state(with_key, folder)


def test_another_id_terminates_the_previous_machine(
    cloud: LambdaCloud, folder: Path, with_key: Terraform
) -> None:
    first, second = cloud.launch(REQUEST), cloud.launch(REQUEST)
    with_key.apply(folder, inputs(cloud, instance_id=first))
    with_key.apply(folder, inputs(cloud, instance_id=second))
    assert cloud.running() == [second]


def test_a_tag_terminates_the_machines_that_carry_it(
    cloud: LambdaCloud, folder: Path, with_key: Terraform
) -> None:
    variables = inputs(cloud, tag=TAG)
    with_key.apply(folder, variables)
    tagged = {**REQUEST, "tags": [{"key": "beta9-machine", "value": TAG}]}
    other = cloud.launch(REQUEST)
    cloud.launch(tagged)
    with_key.destroy(folder, variables)
    assert cloud.running() == [other]


def test_the_key_is_in_no_state_and_no_plan(cloud: LambdaCloud, folder: Path, with_key: Terraform) -> None:
    variables = inputs(cloud, instance_id=cloud.launch(REQUEST))
    with_key.plan(folder, variables)
    assert KEY not in str(with_key.shown(folder))
    with_key.apply(folder, variables)
    for each in folder.rglob("*"):
        assert not each.is_file() or KEY.encode() not in each.read_bytes(), each


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "Set either instance_id or tag"),
        ({"instance_id": "0" * 32, "tag": TAG}, "Set either instance_id or tag"),
        ({"instance_id": "../instances"}, "is not a machine id"),
        ({"tag": "*"}, "tag must be 8-128 letters"),
        ({"tag": TAG, "api_url": "http://cloud.lambda.ai/api/v1"}, "plain http would expose the key"),
        ({"tag": TAG, "api_url": "https://cloud.lambda.ai"}, "answers 404 to every other path"),
    ],
)
def test_wrong_input_fails_the_plan(
    cloud: LambdaCloud, folder: Path, terraform: Terraform, wrong: dict[str, str], message: str
) -> None:
    done = terraform.plan(folder, {**inputs(cloud), **wrong}, check=False)
    assert done.code == 1
    assert message in done.text
