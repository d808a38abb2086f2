"""The user data, validated by the real cloud-init, which `make .build/cloud-init` unpacks without installing it."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agent.core.provisioning import cloud_config
from agent.core.provisioning.user_data import cloud_config as rendered
from tests import ROOT

UNPACKED = ROOT / ".build" / "cloud-init"
PACKAGES = UNPACKED / "usr/lib/python3/dist-packages"
TEMPLATE = (ROOT / "cloud-init" / "user-data.yaml").read_text(encoding="utf-8")
pytestmark = pytest.mark.cloud_init
SETTINGS = {
    "BETA9_POOL_NAME": "gpu",
    "BETA9_SSH_HOST": "gateway.example.com",
    "BETA9_SSH_KNOWN_HOSTS": "# two lines\n\ngateway.example.com ssh-ed25519 AAAA: b\n",
}


@pytest.fixture(scope="module")
def cloud_init() -> list[str]:
    """The command that runs it: with the distribution's own Python, which its packages need."""
    if (UNPACKED / "usr/bin/cloud-init").exists():
        return ["/usr/bin/python3", str(UNPACKED / "usr/bin/cloud-init")]
    installed = shutil.which("cloud-init")
    if installed is None:
        pytest.skip("cloud-init is not installed: make .build/cloud-init unpacks it (Debian, Ubuntu)")
    return [installed]


def schema(cloud_init: list[str], file: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **({"PYTHONPATH": str(PACKAGES)} if PACKAGES.is_dir() else {}), "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [*cloud_init, "schema", "--config-file", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=env,
    )


@pytest.mark.parametrize("text", [TEMPLATE, rendered(TEMPLATE, SETTINGS)], ids=["as it stands", "rendered"])
def test_the_user_data_is_valid(cloud_init: list[str], tmp_path: Path, text: str) -> None:
    file = tmp_path / "user-data"
    file.write_text(text, encoding="utf-8")
    result = schema(cloud_init, file)
    assert result.returncode == 0, result.stderr
    assert "Valid" in result.stdout
    assert "deprecated" not in result.stdout


def test_what_the_command_prints_is_valid(cloud_init: list[str], tmp_path: Path) -> None:
    """The command's compressed output, unpacked again."""
    words = [
        *("--pool-name", "gpu", "--set", "BETA9_SSH_HOST=g.example.com"),
        *("--set", f"BETA9_SSH_HOST_KEY_FINGERPRINT=SHA256:{'A' * 43}"),
        *("--set", f"BETA9_SOURCE=https://example.com/b.tar.gz#sha256={'0' * 64}"),
    ]
    argv = [
        sys.executable,
        "-m",
        "agent",
        "user-data",
        "--cloud",
        "aws",
        "--format",
        "gzip",
        *words,
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BETA9_")}
    packed = subprocess.run(argv, capture_output=True, check=True, timeout=60, cwd=ROOT, env=clean).stdout
    file = tmp_path / "user-data"
    file.write_bytes(gzip.decompress(packed))
    assert schema(cloud_init, file).returncode == 0


def test_it_would_find_a_wrong_value(cloud_init: list[str], tmp_path: Path) -> None:
    file = tmp_path / "user-data"
    file.write_text(TEMPLATE.replace("runcmd:\n  - [bash", "runcmd:\n  - x: [bash"), encoding="utf-8")
    result = schema(cloud_init, file)
    assert result.returncode != 0
    assert "runcmd" in result.stderr + result.stdout


def test_every_key_that_it_knows_we_know_too(cloud_init: list[str]) -> None:
    if not PACKAGES.is_dir():
        pytest.skip("this checks the schema of the unpacked cloud-init only")
    file = PACKAGES / "cloudinit/config/schemas/schema-cloud-config-v1.json"
    definitions = json.loads(file.read_text(encoding="utf-8"))["$defs"]
    modules = [part for name, part in definitions.items() if name.startswith("cc_") or name == "base_config"]
    keys = {key for part in modules for key in part.get("properties", {})}
    assert len(keys) > 60
    assert keys - cloud_config.KNOWN == set()
    files = definitions["cc_write_files"]["properties"]["write_files"]["items"]["properties"]
    text = "#cloud-config\n" + yaml.safe_dump({"write_files": [dict.fromkeys(files, "x")]})
    assert cloud_config.problems(text, yaml.safe_load(text)) == []
