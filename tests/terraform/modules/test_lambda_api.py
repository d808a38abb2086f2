"""The step that ends a machine at Lambda, against a stand-in of the API: it says "ended" only of what has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.terraform.lambda_standin import KEY, LambdaCloud, lambda_cloud

pytestmark = pytest.mark.terraform

PROGRAM = Path(__file__).resolve().parents[3] / "terraform/lib/lambda_api.py"
WANTED = {"region_name": "us-west-1", "instance_type_name": "gpu_1x_a10", "ssh_key_names": ["mine"]}
TAG = "0d3c1d6e-6b5c-4a5e-9a51-6a1f0f6a5b11"
MAY_COST = "it may still run and cost"


@pytest.fixture
def cloud() -> Iterator[LambdaCloud]:
    with lambda_cloud() as cloud:
        yield cloud


def step(cloud: LambdaCloud, *words: str, key: str | None = KEY, **more: str) -> tuple[int, str]:
    """Run the step as Terraform does; returns its exit code and all it said."""
    given = {"PATH": os.environ["PATH"], "LAMBDA_API": cloud.url, "LAMBDA_TIMEOUT_S": "3", **more}
    if key is not None:
        given["REST_API_BEARER"] = key
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *words], env=given, capture_output=True, text=True, check=False
    )
    text = done.stdout + done.stderr
    assert KEY not in text
    return done.returncode, text


def test_a_machine_is_ended_and_the_api_is_asked_whether_it_has(cloud: LambdaCloud) -> None:
    machine, other = cloud.launch(WANTED), cloud.launch(WANTED)
    code, said = step(cloud, "end", machine)
    assert (code, said) == (0, f"{machine} has ended\n")
    assert cloud.machines[machine]["status"] == "terminated"
    assert cloud.running() == [other]
    assert cloud.requests[-1][:2] == ("GET", f"/api/v1/instances/{machine}")


def test_a_machine_that_the_api_does_not_know_is_gone(cloud: LambdaCloud) -> None:
    machine = cloud.launch(WANTED)
    cloud.vanish(machine)
    assert step(cloud, "end", machine) == (0, f"{machine} was gone already\n")


def test_ended_twice_is_ended(cloud: LambdaCloud) -> None:
    machine = cloud.launch(WANTED)
    assert step(cloud, "end", machine)[0] == 0
    assert step(cloud, "end", machine)[0] == 0


def test_a_404_of_a_wrong_address_is_not_a_machine_that_is_gone(cloud: LambdaCloud) -> None:
    """The trap: an address with a wrong path answers 404 to everything, and the machine costs on."""
    machine = cloud.launch(WANTED)
    code, said = step(cloud, "end", machine, LAMBDA_API=cloud.url.replace("/api/v1", "/api/v9"))
    assert code == 1
    assert "404" in said
    assert MAY_COST in said
    assert cloud.running() == [machine]


@pytest.mark.parametrize("status", [400, 401, 403, 409, 500, 502, 503])
def test_every_other_answer_is_an_error(cloud: LambdaCloud, status: int) -> None:
    machine = cloud.launch(WANTED)
    cloud.faults.terminate_status = status
    code, said = step(cloud, "end", machine)
    assert code == 1
    assert f"HTTP {status}" in said
    assert MAY_COST in said
    assert cloud.running() == [machine]


@pytest.mark.parametrize("key", [None, "", "two words", "line\nbreak"])
def test_without_a_key_nothing_is_asked(cloud: LambdaCloud, key: str | None) -> None:
    machine = cloud.launch(WANTED)
    code, said = step(cloud, "end", machine, key=key)
    assert code == 1
    assert "REST_API_BEARER" in said
    assert not cloud.requests


def test_a_wrong_key_is_an_error(cloud: LambdaCloud) -> None:
    machine = cloud.launch(WANTED)
    code, said = step(cloud, "end", machine, key="secret_of_yesterday")
    assert code == 1
    assert "global/invalid-api-key" in said
    assert "yesterday" not in said
    assert cloud.running() == [machine]


def test_a_200_that_names_another_machine_is_an_error(cloud: LambdaCloud) -> None:
    machine = cloud.launch(WANTED)
    cloud.faults.names_another = True
    code, said = step(cloud, "end", machine)
    assert code == 1
    assert "did not name" in said


def test_a_200_after_which_the_machine_goes_on_is_an_error(cloud: LambdaCloud) -> None:
    machine = cloud.launch(WANTED)
    cloud.faults.ends_nothing = True
    code, said = step(cloud, "end", machine)
    assert code == 1
    assert "has not ended after 3 s (active)" in said
    assert MAY_COST in said


def test_a_machine_that_takes_its_time_is_waited_for(cloud: LambdaCloud) -> None:
    machine = cloud.launch(WANTED)
    cloud.faults.polls_until_ended = 4
    assert step(cloud, "end", machine, LAMBDA_TIMEOUT_S="60")[0] == 0
    assert cloud.machines[machine]["status"] == "terminated"


def test_a_machine_that_never_gets_past_terminating_is_an_error(cloud: LambdaCloud) -> None:
    machine = cloud.launch(WANTED)
    cloud.faults.polls_until_ended = 10_000
    code, said = step(cloud, "end", machine)
    assert code == 1
    assert "(terminating)" in said


def test_a_lost_answer_is_made_good_by_asking(cloud: LambdaCloud) -> None:
    machine = cloud.launch(WANTED)
    cloud.faults.answer_lost.add("/terminate")
    assert step(cloud, "end", machine) == (0, f"{machine} has ended\n")


def test_a_lost_answer_from_a_machine_that_goes_on_is_an_error(cloud: LambdaCloud) -> None:
    machine = cloud.launch(WANTED)
    cloud.faults.answer_lost.add("/terminate")
    cloud.faults.ends_nothing = True
    code, said = step(cloud, "end", machine)
    assert code == 1
    assert MAY_COST in said


def test_an_api_that_is_not_there_is_an_error(cloud: LambdaCloud) -> None:
    code, said = step(cloud, "end", "0" * 32, LAMBDA_API="http://127.0.0.1:1/api/v1", LAMBDA_TIMEOUT_S="1")
    assert code == 1
    assert MAY_COST in said


def test_asked_too_often_it_asks_again(cloud: LambdaCloud) -> None:
    machine = cloud.launch(WANTED)
    cloud.faults.too_often = 2
    assert step(cloud, "end", machine)[0] == 0
    assert not cloud.running()


@pytest.mark.parametrize("wrong", ["", "short", "../instances", "0" * 32 + " ", "*"])
def test_what_is_no_id_is_refused_before_anything_is_asked(cloud: LambdaCloud, wrong: str) -> None:
    cloud.launch(WANTED)
    assert step(cloud, "end", wrong)[0] == 1
    assert not cloud.requests


def test_the_key_goes_nowhere_in_clear(cloud: LambdaCloud) -> None:
    code, said = step(cloud, "end", "0" * 32, LAMBDA_API="http://cloud.lambda.ai/api/v1")
    assert code == 1
    assert "https" in said


def test_a_machine_whose_launch_got_lost_is_found_by_its_tag(cloud: LambdaCloud) -> None:
    tagged = {**WANTED, "tags": [{"key": "beta9-machine", "value": TAG}]}
    ours, twin, other = cloud.launch(tagged), cloud.launch(tagged), cloud.launch(WANTED)
    code, said = step(cloud, "end-tagged", TAG)
    assert code == 0
    assert ours in said
    assert twin in said
    assert cloud.running() == [other]


def test_no_machine_with_the_tag_is_nothing_to_do(cloud: LambdaCloud) -> None:
    other = cloud.launch(WANTED)
    assert step(cloud, "end-tagged", TAG)[0] == 0
    assert cloud.running() == [other]


@pytest.mark.parametrize("wrong", ["", "*", "a b"])
def test_what_is_no_tag_ends_nothing(cloud: LambdaCloud, wrong: str) -> None:
    machine = cloud.launch(WANTED)
    assert step(cloud, "end-tagged", wrong)[0] == 1
    assert cloud.running() == [machine]


def test_a_list_that_cannot_be_had_is_an_error(cloud: LambdaCloud) -> None:
    cloud.faults.read_status = 500
    code, said = step(cloud, "end-tagged", TAG)
    assert code == 1
    assert "does not list" in said


def test_the_address_is_told_once_the_machine_is_active(cloud: LambdaCloud) -> None:
    machine = cloud.launch(WANTED)
    cloud.faults.polls_until_active = 3
    assert step(cloud, "address", machine, LAMBDA_TIMEOUT_S="60") == (0, "127.0.0.1\n")


def test_a_machine_that_ended_has_no_address(cloud: LambdaCloud) -> None:
    machine = cloud.launch(WANTED)
    cloud.machines[machine]["status"] = "terminated"
    code, said = step(cloud, "address", machine)
    assert code == 1
    assert "-replace" in said
