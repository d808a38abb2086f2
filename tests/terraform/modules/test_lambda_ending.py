"""modules/lambda-ending, really applied and destroyed: the state forgets a machine only when it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.terraform.lambda_standin import KEY, LambdaCloud, lambda_cloud
from tests.terraform.program import Terraform

pytestmark = pytest.mark.terraform

WANTED = {"region_name": "us-west-1", "instance_type_name": "gpu_1x_a10", "ssh_key_names": ["mine"]}
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


def given(cloud: LambdaCloud, **what: str) -> dict[str, object]:
    return {"api_url": cloud.url, "timeout_s": 5, **what}


def is_known(terraform: Terraform, folder: Path) -> bool:
    return "terraform_data.ending" in terraform.run(folder, "state", "list").output


def test_destroy_ends_the_machine_and_then_forgets_it(
    cloud: LambdaCloud, folder: Path, with_key: Terraform, journal: list[str]
) -> None:
    machine, other = cloud.launch(WANTED), cloud.launch(WANTED)
    told = given(cloud, instance_id=machine)
    with_key.apply(folder, told)
    assert cloud.requests == [], "nothing is asked before it is time"
    done = with_key.destroy(folder, told)
    assert f"{machine} has ended" in done.output
    assert cloud.machines[machine]["status"] == "terminated"
    assert cloud.running() == [other]
    assert not is_known(with_key, folder)
    journal.append("modules/lambda-ending: applied, destroyed, the machine ended by the stand-in's word")


@pytest.mark.parametrize("status", [401, 500])
def test_a_failed_destroy_keeps_the_machine_in_the_state(
    cloud: LambdaCloud, folder: Path, with_key: Terraform, status: int
) -> None:
    machine = cloud.launch(WANTED)
    told = given(cloud, instance_id=machine)
    with_key.apply(folder, told)
    cloud.faults.terminate_status = status
    done = with_key.destroy(folder, told, check=False)
    assert done.code == 1
    assert "it may still run and cost" in done.text
    assert is_known(with_key, folder)
    cloud.faults.terminate_status = 0
    with_key.destroy(folder, told)
    assert cloud.running() == []
    assert not is_known(with_key, folder)


def test_without_a_key_destroy_fails_and_says_so(
    cloud: LambdaCloud, folder: Path, terraform: Terraform, with_key: Terraform
) -> None:
    machine = cloud.launch(WANTED)
    told = given(cloud, instance_id=machine)
    with_key.apply(folder, told)
    done = terraform.destroy(folder, told, check=False)
    assert done.code == 1
    assert "REST_API_BEARER holds no API key" in done.text
    assert is_known(terraform, folder)
    assert cloud.running() == [machine]


def test_a_machine_that_vanished_is_forgotten(cloud: LambdaCloud, folder: Path, with_key: Terraform) -> None:
    machine = cloud.launch(WANTED)
    told = given(cloud, instance_id=machine)
    with_key.apply(folder, told)
    cloud.vanish(machine)
    assert "was gone already" in with_key.destroy(folder, told).output
    assert not is_known(with_key, folder)


def test_another_id_ends_the_machine_there_was(cloud: LambdaCloud, folder: Path, with_key: Terraform) -> None:
    first, second = cloud.launch(WANTED), cloud.launch(WANTED)
    with_key.apply(folder, given(cloud, instance_id=first))
    with_key.apply(folder, given(cloud, instance_id=second))
    assert cloud.running() == [second]


def test_a_tag_ends_what_carries_it(cloud: LambdaCloud, folder: Path, with_key: Terraform) -> None:
    told = given(cloud, tag=TAG)
    with_key.apply(folder, told)
    tagged = {**WANTED, "tags": [{"key": "beta9-machine", "value": TAG}]}
    other = cloud.launch(WANTED)
    cloud.launch(tagged)
    with_key.destroy(folder, told)
    assert cloud.running() == [other]


def test_the_key_is_in_no_state_and_no_plan(cloud: LambdaCloud, folder: Path, with_key: Terraform) -> None:
    told = given(cloud, instance_id=cloud.launch(WANTED))
    with_key.plan(folder, told)
    assert KEY not in str(with_key.shown(folder))
    with_key.apply(folder, told)
    for each in folder.rglob("*"):
        assert not each.is_file() or KEY.encode() not in each.read_bytes(), each


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({}, "Give either instance_id or tag"),
        ({"instance_id": "0" * 32, "tag": TAG}, "Give either instance_id or tag"),
        ({"instance_id": "../instances"}, "is not the id of a machine"),
        ({"tag": "*"}, "tag must be 8-128 letters"),
        ({"tag": TAG, "api_url": "http://cloud.lambda.ai/api/v1"}, "plain http would show the key"),
        ({"tag": TAG, "api_url": "https://cloud.lambda.ai"}, "answers 404 to everything"),
    ],
)
def test_wrong_input_fails_the_plan(
    cloud: LambdaCloud, folder: Path, terraform: Terraform, what: dict[str, str], said: str
) -> None:
    done = terraform.plan(folder, {**given(cloud), **what}, check=False)
    assert done.code == 1
    assert said in done.text
