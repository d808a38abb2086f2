"""modules/push-secrets, really applied: a new machine proves its host key and gets its secrets, and nobody else does.

Real are Terraform, ssh, sshd and `beta9-worker push-secrets`; the machine is this host, by a folder for its files.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.terraform.lambda_standin import KEY, LambdaCloud, lambda_cloud
from tests.terraform.machine import Machine, machine
from tests.terraform.program import Terraform

pytestmark = pytest.mark.terraform

NONCE = str(uuid.uuid4())
TOKEN = "token-of-the-test-3k2j1h"
WANTED = {"region_name": "us-west-1", "instance_type_name": "gpu_1x_a10", "ssh_key_names": ["mine"]}


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        made.write_env(f"BETA9_HOST_KEY_NONCE={NONCE}\n")
        yield made


@pytest.fixture
def cloud() -> Iterator[LambdaCloud]:
    with lambda_cloud() as cloud:
        yield cloud


@pytest.fixture
def folder(tree: Path, terraform: Terraform) -> Path:
    folder = tree / "terraform/modules/push-secrets"
    terraform.init(folder)
    return folder


@pytest.fixture
def given(new: Machine, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "token").write_text(TOKEN)
    return {
        "machine": "m-1",
        "host": new.sshd.host,
        "login_port": new.sshd.port,
        "login_user": new.sshd.user,
        "login_key_file": str(new.sshd.key_path),
        "nonce": NONCE,
        "known_hosts_file": str(tmp_path / "known_hosts"),
        "token_file": str(tmp_path / "token"),
        "tunnel_key_file": str(new.sshd.make_key("tunnel_key")),
        "secrets_directory": f"{new.root}/etc/beta9-worker/secrets",
        "timeout_s": 60,
    }


def delivered(new: Machine) -> dict[str, str]:
    folder = new.root / "etc/beta9-worker/secrets"
    return {each.name: each.read_text() for each in folder.iterdir()} if folder.exists() else {}


def test_a_machine_that_proves_its_key_gets_them(
    new: Machine, folder: Path, given: dict[str, Any], terraform: Terraform, journal: list[str]
) -> None:
    terraform.apply(folder, given)
    assert delivered(new) == {
        "token": TOKEN,
        "ssh_key": Path(given["tunnel_key_file"]).read_text(),
    }
    assert Path(given["known_hosts_file"]).read_text() == new.sshd.known_hosts
    assert "No changes" in terraform.apply(folder, given).output
    terraform.destroy(folder, given)
    journal.append("modules/push-secrets: applied to a real sshd, destroyed")


def test_they_are_in_no_state_no_plan_and_no_output(
    new: Machine, folder: Path, given: dict[str, Any], terraform: Terraform
) -> None:
    terraform.plan(folder, given)
    said = [str(terraform.shown(folder)), terraform.apply(folder, given).text]
    said += [each.read_text() for each in folder.glob("terraform.tfstate*")]
    assert len(said) == 3
    for secret in (TOKEN, Path(given["tunnel_key_file"]).read_text().splitlines()[1]):
        assert not any(secret in each for each in said)


def test_who_cannot_prove_it_gets_nothing(
    new: Machine, folder: Path, given: dict[str, Any], terraform: Terraform
) -> None:
    new.write_env(f"BETA9_HOST_KEY_NONCE={uuid.uuid4()}\n")
    done = terraform.apply(folder, given, check=False)
    assert done.code == 1
    assert "cannot prove that its host key" in done.text
    assert delivered(new) == {}


def test_rotated_secrets_go_out_by_a_new_revision(
    new: Machine, folder: Path, given: dict[str, Any], terraform: Terraform, tmp_path: Path
) -> None:
    terraform.apply(folder, given)
    (tmp_path / "token").write_text("another")
    terraform.apply(folder, given)
    assert delivered(new)["token"] == TOKEN, "Terraform does not look into the file"
    terraform.apply(folder, {**given, "revision": 2})
    assert delivered(new)["token"] == "another"


def test_a_machine_at_lambda_is_waited_for_until_it_has_an_address(
    new: Machine, cloud: LambdaCloud, folder: Path, given: dict[str, Any], terraform: Terraform
) -> None:
    cloud.faults.polls_until_active = 2
    told = {**given, "host": None, "lambda_instance_id": cloud.launch(WANTED), "lambda_api_url": cloud.url}
    done = terraform.with_environment(REST_API_BEARER=KEY).apply(folder, told)
    assert "The machine is active at 127.0.0.1" in done.text
    assert delivered(new)["token"] == TOKEN
