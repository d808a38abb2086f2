"""modules/push-secrets, applied for real: only a machine that proves its host key gets the secrets.

Terraform, ssh, sshd and `beta9-worker push-secrets` are real; the machine is this host, with a directory as its root.
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
REQUEST = {"region_name": "us-west-1", "instance_type_name": "gpu_1x_a10", "ssh_key_names": ["mine"]}


@pytest.fixture
def new_machine(tmp_path: Path) -> Iterator[Machine]:
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
def given(new_machine: Machine, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "token").write_text(TOKEN)
    return {
        "machine": "m-1",
        "host": new_machine.sshd.host,
        "login_port": new_machine.sshd.port,
        "login_user": new_machine.sshd.user,
        "login_key_file": str(new_machine.sshd.key_path),
        "nonce": NONCE,
        "known_hosts_file": str(tmp_path / "known_hosts"),
        "token_file": str(tmp_path / "token"),
        "tunnel_key_file": str(new_machine.sshd.make_key("tunnel_key")),
        "secrets_directory": f"{new_machine.root}/etc/beta9-worker/secrets",
        "timeout_s": 60,
    }


def delivered(new_machine: Machine) -> dict[str, str]:
    folder = new_machine.root / "etc/beta9-worker/secrets"
    return {each.name: each.read_text() for each in folder.iterdir()} if folder.exists() else {}


def test_a_machine_that_proves_its_key_gets_the_secrets(
    new_machine: Machine, folder: Path, given: dict[str, Any], terraform: Terraform, journal: list[str]
) -> None:
    terraform.apply(folder, given)
    assert delivered(new_machine) == {
        "token": TOKEN,
        "ssh_key": Path(given["tunnel_key_file"]).read_text(),
    }
    assert Path(given["known_hosts_file"]).read_text() == new_machine.sshd.known_hosts
    assert "No changes" in terraform.apply(folder, given).output
    terraform.destroy(folder, given)
    journal.append("modules/push-secrets: applied to a real sshd, destroyed")


def test_secrets_appear_in_neither_state_nor_plan_nor_output(
    new_machine: Machine, folder: Path, given: dict[str, Any], terraform: Terraform
) -> None:
    terraform.plan(folder, given)
    texts = [str(terraform.shown(folder)), terraform.apply(folder, given).text]
    texts += [each.read_text() for each in folder.glob("terraform.tfstate*")]
    assert len(texts) == 3
    for secret in (TOKEN, Path(given["tunnel_key_file"]).read_text().splitlines()[1]):
        assert not any(secret in each for each in texts)


def test_a_machine_that_cannot_prove_its_key_gets_nothing(
    new_machine: Machine, folder: Path, given: dict[str, Any], terraform: Terraform
) -> None:
    new_machine.write_env(f"BETA9_HOST_KEY_NONCE={uuid.uuid4()}\n")
    done = terraform.apply(folder, given, check=False)
    assert done.code == 1
    assert "cannot prove that its host key" in done.text
    assert delivered(new_machine) == {}


def test_rotated_secrets_are_sent_with_a_new_revision(
    new_machine: Machine, folder: Path, given: dict[str, Any], terraform: Terraform, tmp_path: Path
) -> None:
    terraform.apply(folder, given)
    (tmp_path / "token").write_text("another")
    terraform.apply(folder, given)
    assert delivered(new_machine)["token"] == TOKEN, "Terraform does not read the file"
    terraform.apply(folder, {**given, "revision": 2})
    assert delivered(new_machine)["token"] == "another"


def test_a_machine_at_lambda_is_awaited_until_it_has_an_address(
    new_machine: Machine, cloud: LambdaCloud, folder: Path, given: dict[str, Any], terraform: Terraform
) -> None:
    cloud.faults.polls_until_active = 2
    instance = {"host": None, "lambda_instance_id": cloud.launch(REQUEST), "lambda_api_url": cloud.url}
    done = terraform.with_environment(REST_API_BEARER=KEY).apply(folder, {**given, **instance})
    assert "The machine is active at 127.0.0.1" in done.text
    assert delivered(new_machine)["token"] == TOKEN
