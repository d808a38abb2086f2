"""modules/push-secrets, applied for real: only a machine that proves its host key gets the secrets.

Terraform, ssh, sshd and `beta9-worker push-secrets` are real; the machine is this host, with a directory as its root.
"""

from __future__ import annotations

import hashlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.waiting import wait_until
from tests.terraform.lambda_standin import KEY, LambdaCloud, lambda_cloud
from tests.terraform.machine import Machine, machine
from tests.terraform.program import Terraform, checkout_of_tree, git

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


# --- The source tarball -----------------------------------------------------------------------------------------


@pytest.fixture
def tarball(tmp_path: Path) -> dict[str, str]:
    """As in the output of modules/source, from a checkout in which the file is still missing."""
    root = checkout_of_tree(tmp_path / "checkout")
    head, file = git(root, "rev-parse", "HEAD"), root / "dist/beta9-worker-1.tar.gz"
    printed = subprocess.run(
        [root / "scripts/source.sh", head, tmp_path / "x"], check=True, capture_output=True, text=True
    ).stdout
    location = f"/opt/beta9-worker/source/{file.name}#sha256={printed[:64]}"
    return {"commit": head, "file": str(file), "sha256": printed[:64], "location": location}


def in_checkout(tarball: dict[str, str], terraform: Terraform) -> Path:
    folder = Path(tarball["file"]).parents[1] / "terraform/modules/push-secrets"
    terraform.init(folder)
    return folder


def arrived(new_machine: Machine, tarball: dict[str, str]) -> str:
    """Return the checksum of what is at the place where the machine waits for it."""
    place = new_machine.root / tarball["location"].split("#")[0].lstrip("/")
    return hashlib.sha256(place.read_bytes()).hexdigest()


def test_the_tarball_is_sent_with_the_secrets_and_built_if_it_is_missing(
    new_machine: Machine, tarball: dict[str, str], given: dict[str, Any], terraform: Terraform
) -> None:
    folder = in_checkout(tarball, terraform)
    terraform.apply(folder, {**given, "source_tarball": tarball})
    assert arrived(new_machine, tarball) == tarball["sha256"]
    assert delivered(new_machine)["token"] == TOKEN


def test_without_secrets_the_tarball_alone_is_sent(
    new_machine: Machine, tarball: dict[str, str], given: dict[str, Any], terraform: Terraform
) -> None:
    folder = in_checkout(tarball, terraform)
    none = {"token_file": None, "tunnel_key_file": None}
    terraform.apply(folder, {**given, **none, "source_tarball": tarball})
    assert arrived(new_machine, tarball) == tarball["sha256"]
    assert delivered(new_machine) == {}
    planned = terraform.plan(folder, {**given, **none}, check=False)
    assert "otherwise there is nothing to send" in planned.text


def test_a_machine_that_gave_up_waiting_boots_again(
    new_machine: Machine, tarball: dict[str, str], given: dict[str, Any], terraform: Terraform
) -> None:
    state, opt = new_machine.root / "var/lib/beta9-worker", new_machine.root / "opt/beta9-worker"
    opt.mkdir(parents=True)
    (opt / "boot.sh").write_text(f"echo booted >{state}/again.new; mv {state}/again.new {state}/again\n")
    (state / "bootstrap.json").write_text(
        '{"version":1,"result":"failed","failed_stage":"boot","stages":[]}\n'
    )
    folder = in_checkout(tarball, terraform)
    done = terraform.apply(folder, {**given, "source_tarball": tarball})
    assert "its boot script runs again" in done.output
    wait_until((state / "again").exists, 60)
    assert not (state / "bootstrap.json").exists()


def test_a_tarball_that_the_machine_does_not_expect_is_not_sent(
    new_machine: Machine, tarball: dict[str, str], given: dict[str, Any], terraform: Terraform
) -> None:
    folder = in_checkout(tarball, terraform)
    done = terraform.apply(folder, {**given, "source_tarball": {**tarball, "sha256": "0" * 64}}, check=False)
    assert done.code == 1
    assert "is not the tarball that the machine expects" in done.text
    assert not (new_machine.root / "opt/beta9-worker/source").exists()
    assert delivered(new_machine) == {}
