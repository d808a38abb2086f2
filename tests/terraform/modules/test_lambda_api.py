"""lambda_api.py against a stand-in of Lambda's API: it succeeds only for machines that are terminated."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import ROOT
from tests.terraform.lambda_standin import KEY, LambdaCloud, lambda_cloud

pytestmark = pytest.mark.terraform

PROGRAM = ROOT / "terraform/lib/lambda_api.py"
REQUEST = {"region_name": "us-west-1", "instance_type_name": "gpu_1x_a10", "ssh_key_names": ["mine"]}
TAG = "0d3c1d6e-6b5c-4a5e-9a51-6a1f0f6a5b11"
MAY_COST = "it may still run and accrue charges"


@pytest.fixture
def cloud() -> Iterator[LambdaCloud]:
    with lambda_cloud() as cloud:
        yield cloud


def step(cloud: LambdaCloud, *arguments: str, key: str | None = KEY, **more: str) -> tuple[int, str]:
    """Run a step as Terraform does; return its exit code and all its output."""
    environment = {"PATH": os.environ["PATH"], "LAMBDA_API": cloud.url, "LAMBDA_TIMEOUT_S": "3", **more}
    if key is not None:
        environment["REST_API_BEARER"] = key
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout + done.stderr
    assert KEY not in text
    return done.returncode, text


def test_a_machine_is_terminated_and_its_status_verified(cloud: LambdaCloud) -> None:
    machine, other = cloud.launch(REQUEST), cloud.launch(REQUEST)
    code, output = step(cloud, "end", machine)
    assert (code, output) == (0, f"{machine} is terminated\n")
    assert cloud.machines[machine]["status"] == "terminated"
    assert cloud.running() == [other]
    assert cloud.requests[-1][:2] == ("GET", f"/api/v1/instances/{machine}")


def test_a_machine_unknown_to_the_api_is_gone(cloud: LambdaCloud) -> None:
    machine = cloud.launch(REQUEST)
    cloud.vanish(machine)
    assert step(cloud, "end", machine) == (0, f"{machine} no longer exists\n")


def test_terminating_twice_succeeds(cloud: LambdaCloud) -> None:
    machine = cloud.launch(REQUEST)
    assert step(cloud, "end", machine)[0] == 0
    assert step(cloud, "end", machine)[0] == 0


def test_a_404_for_a_wrong_path_is_an_error(cloud: LambdaCloud) -> None:
    """A URL with a wrong path answers 404 to everything, while the machine keeps accruing charges."""
    machine = cloud.launch(REQUEST)
    code, output = step(cloud, "end", machine, LAMBDA_API=cloud.url.replace("/api/v1", "/api/v9"))
    assert code == 1
    assert "404" in output
    assert MAY_COST in output
    assert cloud.running() == [machine]


@pytest.mark.parametrize("status", [400, 401, 403, 409, 500, 502, 503])
def test_every_other_answer_is_an_error(cloud: LambdaCloud, status: int) -> None:
    machine = cloud.launch(REQUEST)
    cloud.faults.terminate_status = status
    code, output = step(cloud, "end", machine)
    assert code == 1
    assert f"HTTP {status}" in output
    assert MAY_COST in output
    assert cloud.running() == [machine]


@pytest.mark.parametrize("key", [None, "", "two words", "line\nbreak"])
def test_without_a_valid_key_no_request_is_sent(cloud: LambdaCloud, key: str | None) -> None:
    machine = cloud.launch(REQUEST)
    code, output = step(cloud, "end", machine, key=key)
    assert code == 1
    assert "REST_API_BEARER" in output
    assert not cloud.requests


def test_a_wrong_key_is_an_error(cloud: LambdaCloud) -> None:
    machine = cloud.launch(REQUEST)
    code, output = step(cloud, "end", machine, key="secret_of_yesterday")
    assert code == 1
    assert "global/invalid-api-key" in output
    assert "yesterday" not in output
    assert cloud.running() == [machine]


def test_a_200_that_lists_another_machine_is_an_error(cloud: LambdaCloud) -> None:
    machine = cloud.launch(REQUEST)
    cloud.faults.lists_another = True
    code, output = step(cloud, "end", machine)
    assert code == 1
    assert "did not list" in output


def test_a_200_after_which_the_machine_keeps_running_is_an_error(cloud: LambdaCloud) -> None:
    machine = cloud.launch(REQUEST)
    cloud.faults.keeps_running = True
    code, output = step(cloud, "end", machine)
    assert code == 1
    assert "is not terminated after 3 s (active)" in output
    assert MAY_COST in output


def test_a_slow_termination_is_awaited(cloud: LambdaCloud) -> None:
    machine = cloud.launch(REQUEST)
    cloud.faults.polls_until_ended = 4
    assert step(cloud, "end", machine, LAMBDA_TIMEOUT_S="60")[0] == 0
    assert cloud.machines[machine]["status"] == "terminated"


def test_a_machine_stuck_in_terminating_is_an_error(cloud: LambdaCloud) -> None:
    machine = cloud.launch(REQUEST)
    cloud.faults.polls_until_ended = 10_000
    code, output = step(cloud, "end", machine)
    assert code == 1
    assert "(terminating)" in output


def test_after_a_lost_response_the_status_is_polled(cloud: LambdaCloud) -> None:
    machine = cloud.launch(REQUEST)
    cloud.faults.response_lost.add("/terminate")
    assert step(cloud, "end", machine) == (0, f"{machine} is terminated\n")


def test_a_lost_response_while_the_machine_keeps_running_is_an_error(cloud: LambdaCloud) -> None:
    machine = cloud.launch(REQUEST)
    cloud.faults.response_lost.add("/terminate")
    cloud.faults.keeps_running = True
    code, output = step(cloud, "end", machine)
    assert code == 1
    assert MAY_COST in output


def test_an_unreachable_api_is_an_error(cloud: LambdaCloud) -> None:
    code, output = step(cloud, "end", "0" * 32, LAMBDA_API="http://127.0.0.1:1/api/v1", LAMBDA_TIMEOUT_S="1")
    assert code == 1
    assert MAY_COST in output


def test_a_429_is_retried(cloud: LambdaCloud) -> None:
    machine = cloud.launch(REQUEST)
    cloud.faults.too_many_requests = 2
    assert step(cloud, "end", machine)[0] == 0
    assert not cloud.running()


@pytest.mark.parametrize("wrong", ["", "short", "../instances", "0" * 32 + " ", "*"])
def test_an_invalid_id_is_refused_without_a_request(cloud: LambdaCloud, wrong: str) -> None:
    cloud.launch(REQUEST)
    assert step(cloud, "end", wrong)[0] == 1
    assert not cloud.requests


def test_the_key_is_never_sent_in_clear_text(cloud: LambdaCloud) -> None:
    code, output = step(cloud, "end", "0" * 32, LAMBDA_API="http://cloud.lambda.ai/api/v1")
    assert code == 1
    assert "https" in output


def test_a_machine_whose_launch_response_was_lost_is_found_by_its_tag(cloud: LambdaCloud) -> None:
    tagged = {**REQUEST, "tags": [{"key": "beta9-machine", "value": TAG}]}
    first, second, other = cloud.launch(tagged), cloud.launch(tagged), cloud.launch(REQUEST)
    code, output = step(cloud, "end-tagged", TAG)
    assert code == 0
    assert first in output
    assert second in output
    assert cloud.running() == [other]


def test_without_a_tagged_machine_there_is_nothing_to_do(cloud: LambdaCloud) -> None:
    other = cloud.launch(REQUEST)
    assert step(cloud, "end-tagged", TAG)[0] == 0
    assert cloud.running() == [other]


@pytest.mark.parametrize("wrong", ["", "*", "a b"])
def test_an_invalid_tag_terminates_nothing(cloud: LambdaCloud, wrong: str) -> None:
    machine = cloud.launch(REQUEST)
    assert step(cloud, "end-tagged", wrong)[0] == 1
    assert cloud.running() == [machine]


def test_a_failed_list_is_an_error(cloud: LambdaCloud) -> None:
    cloud.faults.read_status = 500
    code, output = step(cloud, "end-tagged", TAG)
    assert code == 1
    assert "did not list the machines" in output


def test_the_address_is_printed_once_the_machine_is_active(cloud: LambdaCloud) -> None:
    machine = cloud.launch(REQUEST)
    cloud.faults.polls_until_active = 3
    assert step(cloud, "address", machine, LAMBDA_TIMEOUT_S="60") == (0, "127.0.0.1\n")


def test_a_terminated_machine_has_no_address(cloud: LambdaCloud) -> None:
    machine = cloud.launch(REQUEST)
    cloud.machines[machine]["status"] = "terminated"
    code, output = step(cloud, "address", machine)
    assert code == 1
    assert "-replace" in output
