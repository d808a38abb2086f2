"""What is wrong is said at plan time, in a sentence that helps, also for modules whose providers are not here.

Those keep their variables and the call of modules/user-data, which need no provider, in files of their own; the rest
is taken away for these tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.terraform.program import Terraform, copy_of_tree
from tests.terraform.providers import needed

pytestmark = pytest.mark.terraform

SUM = "0123456789abcdef" * 4
UUID = "0b2c6f7e-3c5b-4d9e-8d63-0e9a2f6b7c11"
WORKER = {
    "name": "worker-1",
    "pool_name": "gpu",
    "ssh_host": "gateway.example.com",
    "ssh_host_key_fingerprint": "SHA256:" + "A" * 43,
    "source_tarball": f"https://example.com/beta9-worker.tar.gz#sha256={SUM}",
}
GOOD: dict[str, dict[str, Any]] = {
    "lambda": {**WORKER, "region": "us-west-1", "instance_type": "gpu_1x_a10", "ssh_key_name": "mine"},
    "crusoe": {
        **WORKER,
        "type": "a100-80gb.1x",
        "location": "us-east1-a",
        "image": "ubuntu22.04-nvidia-pcie-docker:latest",
        "ssh_public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHH me",
    },
    "ssh": {
        **{name: value for name, value in WORKER.items() if name != "name"},
        "host": "192.0.2.9",
        "host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHH",
    },
    "push-secrets": {"machine": "m", "host": "192.0.2.9", "nonce": UUID, "known_hosts_file": "k"},
}
FILES = ("token_file", "tunnel_key_file")
WRONG: list[tuple[str, dict[str, Any], str]] = [
    (each, wrong, said)
    for each in ("lambda", "crusoe", "ssh")
    for wrong, said in (
        ({"pool_name": "gpu pool"}, "pool_name 'gpu pool' is not a name that the gateway can use"),
        ({"ssh_host": "me@gateway"}, "without user, scheme or port"),
        ({"ssh_port": 0}, "from 1 to 65535"),
        ({"ssh_user": "-x"}, "not a login name"),
        ({"ssh_host_key_fingerprint": "MD5:aa:bb"}, "as `ssh-keygen -lf"),
        ({"source_tarball": "https://example.com/x.tar.gz"}, "#sha256= and 64 hexadecimal digits"),
        ({"source_tarball": None}, "Nothing says where the bootstrap is"),
        ({"agent_image": "registry/beta9-worker:latest"}, "a tag can be moved"),
        ({"provider_name": "a b"}, "provider_name must be"),
        ({"settings": {"BETA9_POLL_NAME": "x"}}, "nothing reads BETA9_POLL_NAME"),
        ({"settings": {"BETA9_K3S_TOKEN": "abc"}}, "holds a secret in plain text"),
        ({"tunnel_key_file": None, "token_file": "given"}, "Give both token_file and tunnel_key_file"),
    )
] + [
    ("crusoe", {"settings": {"BETA9_SSH_KNOWN_HOSTS": "x" * 66_000}}, "crusoe takes 65535"),
    ("crusoe", {"settings": {"BETA9_SSH_KNOWN_HOSTS": "gâteway"}}, "plain ASCII only"),
    ("lambda", {"name": ""}, "no more than 64 characters"),
    ("lambda", {"region": "west"}, "such as us-west-1"),
    ("lambda", {"instance_type": "H100 please"}, "such as gpu_1x_a10"),
    ("lambda", {"ssh_key_name": " "}, "without exactly one key"),
    ("lambda", {"hostname": "UPPER"}, "lower-case"),
    ("lambda", {"image_id": "0" * 32, "image_family": "lambda-stack"}, "not both"),
    ("lambda", {"image_id": "latest"}, "32 hexadecimal digits"),
    ("lambda", {"image_family": " "}, "image_family is empty"),
    ("lambda", {"file_system_names": [""]}, "empty name"),
    ("lambda", {"firewall_ruleset_ids": ["web"]}, "ids of rule sets"),
    ("lambda", {"tags": {"Team": "x"}}, "lower-case letters"),
    ("lambda", {"tags": {"beta9-machine": "x"}}, "the module's own"),
    ("lambda", {"api_url": "https://cloud.lambda.ai"}, "answers 404 to everything"),
    ("crusoe", {"name": ""}, "the provider takes an empty one and fails later"),
    ("crusoe", {"type": "A100"}, "such as a100-80gb.1x"),
    ("crusoe", {"location": "here"}, "such as us-east1-a"),
    ("crusoe", {"custom_image": UUID}, "either image or custom_image"),
    ("crusoe", {"image": None}, "either image or custom_image"),
    ("crusoe", {"image": "ubuntu"}, "NAME:TAG"),
    ("crusoe", {"image": None, "custom_image": "mine"}, "a UUID"),
    ("crusoe", {"ssh_public_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "Not the private key"),
    ("crusoe", {"subnet_id": "default"}, "a UUID"),
    ("crusoe", {"subnet_id": UUID, "create_network": True}, "not both"),
    ("crusoe", {"network_cidr": "10.42.0.0/24"}, "(k3s)"),
    ("crusoe", {"ssh_from": "me"}, "192.0.2.7/32"),
    ("crusoe", {"create_network": True, **dict.fromkeys(FILES, "given")}, "needs ssh_from"),
    ("crusoe", {"disk_ids": ["data"]}, "UUIDs"),
    ("crusoe", {"project_id": "mine"}, "a UUID"),
    ("ssh", {"host": "me@host"}, "no user and no port"),
    ("ssh", {"login_port": 70000}, "from 1 to 65535"),
    ("ssh", {"host_key": "SHA256:abc"}, "Not a fingerprint"),
    ("ssh", {"source_file": "/nowhere.tar.gz"}, "`make source` makes one"),
    ("ssh", {"source_file": "given"}, "not both"),
    ("ssh", {"revision": 0.5}, "whole number"),
    ("ssh", {"secrets_directory": "here"}, "absolute path"),
    ("ssh", {"timeout_s": 0}, "from 1 to 14400"),
    ("ssh", {"leave_timeout_s": 0}, "a week"),
    ("push-secrets", {"host": None}, "either host or lambda_instance_id"),
    ("push-secrets", {"nonce": None}, "nobody knows to whom"),
    ("push-secrets", {"nonce": "1234"}, "not to be guessed"),
    ("push-secrets", {"token_file": "/nowhere"}, "there is no such file here"),
    ("push-secrets", {"tunnel_key_file": "/nowhere"}, "there is no such file here"),
    ("push-secrets", {"login_key_file": "/nowhere"}, "there is no such file here"),
    ("push-secrets", {"host_key": "SHA256:abc"}, "such as ssh-ed25519"),
    ("push-secrets", {"host": "me@host"}, "no user and no port"),
    ("push-secrets", {"login_user": "a b"}, "not a login name"),
    ("push-secrets", {"login_port": 0}, "from 1 to 65535"),
    ("push-secrets", {"known_hosts_file": ""}, "must be a path"),
    ("push-secrets", {"revision": 1.5}, "whole number"),
    ("push-secrets", {"secrets_directory": "here"}, "absolute path"),
    ("push-secrets", {"timeout_s": 0}, "from 1 to 7200"),
    ("ssh", {"token_file": "/nowhere/token", "tunnel_key_file": "given"}, "there is no such file here"),
]


@pytest.fixture(scope="module")
def rules(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What of each module needs no provider, by module."""
    modules = copy_of_tree(tmp_path_factory.mktemp("rules")) / "terraform/modules"
    for name in GOOD:
        if needed(modules / name):
            for each in (modules / name).glob("*.tf"):
                if each.name not in {"variables.tf", "user-data.tf"}:
                    each.unlink()
        terraform.init(modules / name)
    return {name: modules / name for name in GOOD}


def filled(module: str, folder: Path, wrong: dict[str, Any]) -> dict[str, Any]:
    """Return good input, spoilt; "given" for a file that is there."""
    there = folder / "given"
    there.write_text("x")
    spoilt = {
        **GOOD[module],
        **(dict.fromkeys(FILES, "given") if module == "push-secrets" else {}),
        **wrong,
    }
    return {name: str(there) if value == "given" else value for name, value in spoilt.items()}


@pytest.mark.parametrize("module", GOOD)
def test_good_input_passes(module: str, rules: dict[str, Path], terraform: Terraform) -> None:
    terraform.plan(rules[module], filled(module, rules[module], {}))


@pytest.mark.parametrize(("module", "wrong", "said"), WRONG)
def test_wrong_input_is_told(
    module: str, wrong: dict[str, Any], said: str, rules: dict[str, Path], terraform: Terraform
) -> None:
    done = terraform.plan(rules[module], filled(module, rules[module], wrong), check=False)
    assert done.code == 1, done.output
    assert said in done.text
