"""Wrong input fails the plan with a helpful message, even for modules whose providers are not available.

Such modules have their variables and the call of modules/user-data, which need no provider, in files of their own; the
other files are removed for these tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.terraform.modules.unfit_inputs import FITS, SUFFERS, UUID
from tests.terraform.program import Terraform, copy_of_tree
from tests.terraform.providers import needed

pytestmark = pytest.mark.terraform

SUM = "0123456789abcdef" * 4
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "H" * 43
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
        "ssh_public_key": f"{PUBLIC_KEY} me",
    },
    "ssh": {
        **{name: value for name, value in WORKER.items() if name != "name"},
        "host": "192.0.2.9",
        "host_key": PUBLIC_KEY,
    },
    "aws-spot": {
        **WORKER,
        "token_ref": "ssm:///beta9/token",
        "ssh_key_ref": "ssm:///beta9/ssh_key",
        "instance_types": ["g5.xlarge"],
    },
    "push-secrets": {"machine": "m", "host": "192.0.2.9", "nonce": UUID, "known_hosts_file": "k"},
}
FILES = ("token_file", "tunnel_key_file")
WRONG: list[tuple[str, dict[str, Any], str]] = [
    (each, wrong, message)
    for each in ("lambda", "crusoe", "ssh")
    for wrong, message in (
        ({"pool_name": "gpu pool"}, "pool_name 'gpu pool' is not a valid pool name"),
        ({"ssh_host": "me@gateway"}, "without user, scheme or port"),
        ({"ssh_port": 0}, "from 1 to 65535"),
        ({"ssh_user": "-x"}, "not a valid login name"),
        ({"ssh_host_key_fingerprint": "MD5:aa:bb"}, "by `ssh-keygen -lf"),
        ({"source_tarball": "https://example.com/x.tar.gz"}, "#sha256= and 64 hexadecimal digits"),
        ({"source_tarball": None}, "No source for the bootstrap"),
        ({"agent_image": "registry/beta9-worker:latest"}, "a tag could be moved"),
        ({"provider_name": "a b"}, "provider_name must be"),
        ({"settings": {"BETA9_POLL_NAME": "x"}}, "unknown variable BETA9_POLL_NAME"),
        ({"settings": {"BETA9_K3S_TOKEN": "abc"}}, "contains a secret in plain text"),
        (
            {"ssh_host_key_fingerprint": None},
            "nothing identifies its key: set ssh_host_key_file (ssh YOU@HOST",
        ),
        (
            {"ssh_host_key_fingerprint": None, "ssh_host_key_file": "/nowhere"},
            "no such local file. To write it",
        ),
        ({"ssh_host_key_fingerprint": None, "ssh_host_key_file": "blank"}, "has no key of ssh_host"),
        ({"ssh_host_key_file": "given"}, "Give the gateway host's key in one way"),
        ({"ssh_host": "192.0.2.300"}, "not a valid one"),
        ({"ssh_host": "gateway.example.com:22"}, "without user, scheme or port"),
        ({"ssh_host_key_fingerprint": "SHA256:" + "A" * 42}, "and 43 characters"),
        ({"settings": {"BETA9_KEEPALIVE_INTERVAL": "1m"}}, "refuse the value of BETA9_KEEPALIVE_INTERVAL"),
        ({"settings": {"BETA9_KEEPALIVE_INTERVAL": "280"}}, "at most 260 seconds"),
        ({"tunnel_key_file": None, "token_file": "given"}, "Set both token_file and tunnel_key_file"),
    )
] + [
    ("crusoe", {"settings": {"BETA9_SSH_KNOWN_HOSTS": "x" * 66_000}}, "crusoe accepts at most 65535"),
    ("crusoe", {"settings": {"BETA9_SSH_KNOWN_HOSTS": "gâteway"}}, "only scripts in plain ASCII"),
    ("lambda", {"name": ""}, "no more than 64 characters"),
    ("lambda", {"region": "west"}, "such as us-west-1"),
    ("lambda", {"instance_type": "H100 please"}, "such as gpu_1x_a10"),
    ("lambda", {"ssh_key_name": " "}, "only with exactly one key"),
    ("lambda", {"hostname": "UPPER"}, "lower-case"),
    ("lambda", {"image_id": "0" * 32, "image_family": "lambda-stack"}, "not both"),
    ("lambda", {"image_id": "latest"}, "32 hexadecimal digits"),
    ("lambda", {"image_family": " "}, "image_family is empty"),
    ("lambda", {"file_system_names": [""]}, "an empty name"),
    ("lambda", {"firewall_ruleset_ids": ["web"]}, "rule set ids"),
    ("lambda", {"tags": {"Team": "x"}}, "lower-case letters"),
    ("lambda", {"tags": {"beta9-machine": "x"}}, "reserved for the module"),
    ("lambda", {"api_url": "https://cloud.lambda.ai"}, "answers 404 to every other path"),
    ("crusoe", {"name": ""}, "the provider accepts an empty name and fails later"),
    ("crusoe", {"type": "A100"}, "such as a100-80gb.1x"),
    ("crusoe", {"location": "here"}, "such as us-east1-a"),
    ("crusoe", {"custom_image": UUID}, "image or custom_image, not both"),
    ("crusoe", {"image": "ubuntu"}, "NAME:TAG"),
    ("crusoe", {"image": None, "custom_image": "mine"}, "a UUID"),
    ("crusoe", {"ssh_public_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "not the private key"),
    ("crusoe", {"subnet_id": "default"}, "a UUID"),
    ("crusoe", {"subnet_id": UUID, "create_network": True}, "not both"),
    ("crusoe", {"network_cidr": "10.42.0.0/24"}, "(k3s)"),
    ("crusoe", {"ssh_from": "me"}, "192.0.2.7/32"),
    ("crusoe", {"create_network": True, **dict.fromkeys(FILES, "given")}, "needs ssh_from"),
    ("crusoe", {"disk_ids": ["data"]}, "UUIDs"),
    ("crusoe", {"project_id": "mine"}, "a UUID"),
    ("ssh", {"host": "me@host"}, "leave out user and port"),
    ("ssh", {"login_port": 70000}, "from 1 to 65535"),
    ("ssh", {"host_key": "SHA256:abc"}, "not a fingerprint"),
    ("ssh", {"source_file": "/nowhere.tar.gz"}, "`make source` creates one"),
    ("ssh", {"source_file": "given"}, "not both"),
    ("ssh", {"revision": 0.5}, "whole number"),
    ("ssh", {"secrets_directory": "here"}, "absolute path"),
    ("ssh", {"timeout_s": 0}, "from 1 to 14400"),
    ("ssh", {"leave_timeout_s": 0}, "a week"),
    ("push-secrets", {"host": None}, "either host or lambda_instance_id"),
    ("push-secrets", {"nonce": None}, "cannot be verified"),
    ("push-secrets", {"nonce": "1234"}, "impossible to guess"),
    ("push-secrets", {"token_file": "/nowhere"}, "no such local file"),
    ("push-secrets", {"tunnel_key_file": "/nowhere"}, "no such local file"),
    ("push-secrets", {"login_key_file": "/nowhere"}, "no such local file"),
    ("push-secrets", {"host_key": "SHA256:abc"}, "such as ssh-ed25519"),
    ("push-secrets", {"host": "me@host"}, "leave out user and port"),
    ("push-secrets", {"login_user": "a b"}, "not a valid login name"),
    ("push-secrets", {"login_port": 0}, "from 1 to 65535"),
    ("push-secrets", {"known_hosts_file": ""}, "must be a path"),
    ("push-secrets", {"revision": 1.5}, "whole number"),
    ("push-secrets", {"secrets_directory": "here"}, "absolute path"),
    ("push-secrets", {"timeout_s": 0}, "from 1 to 7200"),
    ("ssh", {"token_file": "/nowhere/token", "tunnel_key_file": "given"}, "no such local file"),
]


@pytest.fixture(scope="module")
def rules(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of the modules, reduced to the files that need no provider."""
    modules = copy_of_tree(tmp_path_factory.mktemp("rules")) / "terraform/modules"
    for name in GOOD:
        if needed(modules / name):
            for each in (modules / name).glob("*.tf"):
                if each.name not in {"variables.tf", "user-data.tf", "families.tf"}:
                    each.unlink()
        terraform.init(modules / name)
    return {name: modules / name for name in GOOD}


def inputs(module: str, folder: Path, wrong: dict[str, Any]) -> dict[str, Any]:
    """Return valid input with `wrong` merged in; "given" and "blank" become paths, of a public key and of nothing."""
    files = {name: folder / name for name in ("given", "blank")}
    files["given"].write_text(f"{PUBLIC_KEY} me\n")
    files["blank"].write_text("\n")
    values = {
        **GOOD[module],
        **(dict.fromkeys(FILES, "given") if module == "push-secrets" else {}),
        **wrong,
    }
    paths = {name: str(files[value]) for name, value in values.items() if value in ("given", "blank")}
    return {**values, **paths}


@pytest.mark.parametrize("module", GOOD)
def test_good_input_passes(module: str, rules: dict[str, Path], terraform: Terraform) -> None:
    terraform.plan(rules[module], inputs(module, rules[module], {}))


@pytest.mark.parametrize(("module", "given"), FITS)
def test_input_close_to_a_limit_passes(
    module: str, given: dict[str, Any], rules: dict[str, Path], terraform: Terraform
) -> None:
    terraform.plan(rules[module], inputs(module, rules[module], given))


@pytest.mark.parametrize("host", ["10.42.0.15", "10.43.7.1"])
def test_a_machine_in_k3s_s_usual_networks_is_mentioned(
    host: str, rules: dict[str, Path], terraform: Terraform
) -> None:
    """Field case 12.4: the bootstrap takes other networks for k3s there."""
    done = terraform.plan(rules["ssh"], inputs("ssh", rules["ssh"], {"host": host}))
    assert f"The machine's own network ({host}/32) overlaps" in done.text


def test_a_machine_in_the_containers_range_is_warned_of(rules: dict[str, Path], terraform: Terraform) -> None:
    """The address may be a router's, and functions run there: it is no reason to refuse a box under a desk."""
    done = terraform.plan(rules["ssh"], inputs("ssh", rules["ssh"], {"host": "192.168.1.20"}))
    assert "endpoints and pods on it cannot be reached. Functions run." in done.text


@pytest.mark.parametrize(("module", "wrong", "message"), [*WRONG, *SUFFERS])
def test_wrong_input_fails_the_plan(
    module: str, wrong: dict[str, Any], message: str, rules: dict[str, Path], terraform: Terraform
) -> None:
    done = terraform.plan(rules[module], inputs(module, rules[module], wrong), check=False)
    assert done.code == 1, done.output
    assert message in done.text
