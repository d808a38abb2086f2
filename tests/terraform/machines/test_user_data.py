"""modules/user-data and `beta9-worker user-data` render the same bytes and apply the same rules."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.core.provisioning.env_file import value_problem
from agent.core.provisioning.user_data import CLOUDS
from agent.settings import parsers
from tests import ROOT
from tests.terraform.program import Terraform, copy_of_tree

pytestmark = pytest.mark.terraform

MODULE = "terraform/modules/user-data"
TYPED = {
    "pool_name": "gpu",
    "provider_name": "crusoe",
    "ssh_host": "gateway.example.com",
    "ssh_port": 2222,
    "ssh_user": "tunnel",
    "ssh_host_key_fingerprint": f"SHA256:{'A' * 43}",
    "source_tarball": f"https://example.com/beta9-worker.tar.gz#sha256={'0' * 64}",
    "agent_image": f"registry.example.com/beta9-worker@sha256:{'1' * 64}",
    "token_ref": "ssm:///beta9/gpu/token",
    "ssh_key_ref": "/etc/beta9-worker/secrets/ssh_key",
    "on_failure": "keep",
}
VARIABLES = {
    "pool_name": "BETA9_POOL_NAME",
    "provider_name": "BETA9_PROVIDER_NAME",
    "ssh_host": "BETA9_SSH_HOST",
    "ssh_port": "BETA9_SSH_PORT",
    "ssh_user": "BETA9_SSH_USER",
    "ssh_host_key_fingerprint": "BETA9_SSH_HOST_KEY_FINGERPRINT",
    "source_tarball": "BETA9_SOURCE",
    "agent_image": "BETA9_AGENT_IMAGE",
    "token_ref": "BETA9_TOKEN",
    "ssh_key_ref": "BETA9_SSH_KEY_FILE",
    "on_failure": "BETA9_ON_FAILURE",
}
REQUIRED = ("pool_name", "source_tarball", "ssh_host", "ssh_host_key_fingerprint")
HOST_KEY = (
    "gateway.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGGgMn2tTRYzh6DfMNVvQ4kIh4pHnGLJ5wZ5mDqoQ3Fx"
)
MORE = {
    "BETA9_KEEPALIVE_INTERVAL": "30",
    "BETA9_SSH_FORWARDS": "",
    "BETA9_SSH_KNOWN_HOSTS": f'{HOST_KEY}\n\n# a comment: $HOME `id` "quoted"',
}


@pytest.fixture(scope="module")
def module(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_of_tree(tmp_path_factory.mktemp("user-data")) / MODULE
    terraform.init(folder)
    return folder


def rendered_by_terraform(terraform: Terraform, module: Path, **given: Any) -> dict[str, Any]:
    terraform.apply(module, given)
    return terraform.outputs(module)


def rendered_by_command(cloud: str, form: str, settings: dict[str, str]) -> str:
    options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "agent", "user-data", "--cloud", cloud, "--format", form, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_render_the_same_bytes(terraform: Terraform, module: Path) -> None:
    made = rendered_by_terraform(terraform, module, cloud="generic", settings=MORE, **TYPED)
    settings = {VARIABLES[name]: str(value) for name, value in TYPED.items()} | MORE
    assert made["cloud_config"] == rendered_by_command("generic", "cloud-config", settings)
    assert made["script"] == rendered_by_command("generic", "script", settings)


@pytest.mark.parametrize("cloud", ["aws", "crusoe", "lambda"])
def test_both_choose_the_same_on_failure_for_each_cloud(
    cloud: str, terraform: Terraform, module: Path
) -> None:
    few = {name: TYPED[name] for name in REQUIRED}
    made = rendered_by_terraform(terraform, module, cloud=cloud, **few)
    settings = {VARIABLES[name]: str(value) for name, value in few.items()}
    form = "script" if cloud == "crusoe" else "cloud-config"
    assert made["script" if cloud == "crusoe" else "cloud_config"] == rendered_by_command(
        cloud, form, settings
    )


@pytest.mark.parametrize(
    "character", ["'", "\\", "\r", "\t", "\x7f", "\u00a0", "\u200b", "\u2028"], ids=ascii
)
def test_both_refuse_what_worker_env_cannot_hold(character: str, terraform: Terraform, module: Path) -> None:
    few = {name: TYPED[name] for name in REQUIRED}
    assert value_problem(f"a{character}b")
    planned = terraform.plan(module, {**few, "settings": {"BETA9_HOSTNAME": f"a{character}b"}}, check=False)
    assert "settings: BETA9_HOSTNAME contains a" in planned.text


def test_both_have_the_same_limits_and_patterns() -> None:
    """Compares the module's text with the agent's constants."""
    text = "".join(each.read_text() for each in sorted((ROOT / MODULE).glob("*.tf")))
    limits = {
        name: int(size) for name, size in re.findall(r"^ {4}(\w+)\s+= \{ bytes = (\d+)", text, re.MULTILINE)
    }
    known = {cloud.name: cloud.limit_bytes for cloud in CLOUDS.values() if cloud.limit_bytes}
    assert {name: limits[name] for name in known} == known
    assert f'"^{parsers._NAME}$", var.pool_name' in text
    assert f'"^{parsers._USER}$", var.ssh_user' in text
