"""check.py on the gateway's own configuration, and its output."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.integration.gateway_host.check_program import AUTHORIZE, GATEWAY, Host, check, verdict
from tests.integration.ssh_client import DEADLINE_S


def gateway_config() -> dict[str, object]:
    sizing = {"defaultWorkerGpuType": "A10G", "minFreeCpu": 0, "minFreeMemory": "0Gi", "minFreeGPU": "0"}
    gpu = {"mode": "external", "provider": "generic", "gpuType": "A10G", "poolSizing": sizing}
    return {
        "tailscale": {"directRedisHost": "redis.example.com", "authKey": "very-secret", "enabled": False},
        "worker": {"pools": {"default": {"mode": "local"}, "gpu": gpu}},
    }


def changed(path: str, value: object) -> dict[str, object]:
    """Return the configuration with the setting at a dotted path replaced."""
    config = gateway_config()
    *parents, last = path.split(".")
    section: dict[str, object] = config
    for name in parents:
        section = section[name]  # type: ignore[assignment]
    section[last] = value
    return config


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_gateway_that_is_right_passes_in_either_format(host: Host, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"config.{suffix}"
    path.write_text(yaml.safe_dump(gateway_config()) if suffix == "yaml" else json.dumps(gateway_config()))
    code, findings = check(*host.configure({}), "--config", path, python=("-B",))
    assert code == 0
    assert verdict(findings, "pool gpu: minFree") == "ok"
    assert "very-secret" not in json.dumps(findings)
    assert not any("default" in name for name in findings), "a local pool must not be checked"


@pytest.mark.parametrize(
    ("path", "value", "name", "expected"),
    [
        ("tailscale.directRedisHost", "", "directRedisHost", "failed"),
        ("tailscale.directRedisHost", None, "directRedisHost", "failed"),
        ("tailscale", None, "directRedisHost", "failed"),
        ("tailscale.authKey", "", "tailnet-login", "warning"),
        ("worker.pools.gpu.mode", "local", "pools", "failed"),
        ("worker.pools", None, "pools", "failed"),
        ("worker.pools.gpu.provider", "ec2", "pool gpu: provider", "failed"),
        ("worker.pools.gpu.provider", None, "pool gpu: provider", "failed"),
        ("worker.pools.gpu.poolSizing.defaultWorkerGpuType", "", "pool gpu: gpuType", "failed"),
        ("worker.pools.gpu.gpuType", "H100", "pool gpu: gpuType", "failed"),
        ("worker.pools.gpu.poolSizing.minFreeCpu", "1000m", "pool gpu: minFree", "failed"),
        ("worker.pools.gpu.poolSizing.minFreeMemory", "1Gi", "pool gpu: minFree", "failed"),
        ("worker.pools.gpu.poolSizing.minFreeGPU", 1, "pool gpu: minFree", "failed"),
        ("worker.pools.gpu.poolSizing", None, "pool gpu: gpuType", "failed"),
    ],
)
def test_a_setting_without_which_no_worker_is_placed_is_named(  # noqa: PLR0917 - a table's columns
    host: Host, tmp_path: Path, path: str, value: object, name: str, expected: str
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(changed(path, value)))
    code, findings = check(*host.configure({}), "--config", config)
    assert (code, verdict(findings, name)) == (1 if expected == "failed" else 0, expected)
    assert findings[name]["fix"]


def test_a_pool_asked_for_by_name_must_be_there(host: Host, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(gateway_config()))
    _, findings = check(*host.configure({}), "--config", config, "--pool", "GPU")
    assert verdict(findings, "pool GPU") == "failed"
    _, findings = check(*host.configure({}), "--config", config, "--pool", "default")
    assert verdict(findings, "pool default: mode") == "failed"


@pytest.mark.parametrize(
    ("name", "text", "expected", "message"),
    [
        ("config.yaml", "a: 1", "skipped", "install python3-yaml"),
        ("config.json", '{"secret": ', "failed", "is not JSON"),
        ("config.json", "[1]", "failed", "contains no settings"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_explained(  # noqa: PLR0917 - a table's columns
    host: Host, tmp_path: Path, name: str, text: str, expected: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    _, findings = check(*host.configure({}), "--config", tmp_path / name)
    finding = findings["gateway-config"]
    assert finding["verdict"] == expected
    assert message in finding["seen"] + finding["fix"]


def test_broken_yaml_is_named_by_line_and_not_quoted(host: Host, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("password: hunter2\n  broken: [\n")
    _, findings = check(*host.configure({}), "--config", config, python=("-B",))
    assert "line 2" in findings["gateway-config"]["seen"]
    assert "hunter2" not in json.dumps(findings)


def test_the_check_is_text_for_people_and_runs_on_older_pythons(host: Host) -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-S",
            "-E",
            "-B",
            str(GATEWAY / "check.py"),
            *map(str, host.configure({"GatewayPorts": "no"})),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert result.returncode == 1
    assert "failed   gateway-ports" in result.stdout
    assert "-> install 50-beta9-tunnel.conf" in result.stdout
    for path in GATEWAY.glob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_the_guide_names_every_finding_and_no_option_that_is_not_there(host: Host, tmp_path: Path) -> None:
    guide = (GATEWAY.parents[1] / "docs" / "gateway-setup.md").read_text(encoding="utf-8")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(gateway_config()))
    _, findings = check(*host.configure({}), "--config", config)
    names = {"pool …" if name.startswith("pool ") else name for name in findings}
    assert [name for name in names if f"`{name}`" not in guide] == []
    programs = " ".join(
        path.read_text(encoding="utf-8") for path in [*GATEWAY.iterdir(), AUTHORIZE] if path.is_file()
    )
    assert [option for option in re.findall(r"--[a-z][a-z-]+", guide) if option not in programs] == []
