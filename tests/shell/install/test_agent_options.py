"""The options that the agent's container is started with: GPUs only while Docker can give them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import ROOT

SCRIPT = ROOT / "bootstrap" / "systemd" / "agent-options.sh"
REFUSAL = "docker: Error response from daemon: … nvidia-container-cli: … nvml error: driver not loaded"


def options(tmp_path: Path, configured: str, *, refused: bool) -> tuple[str, str]:
    """Return what the script prints, with a `docker` that refuses GPUs as the real one does, or takes them."""
    environment = tmp_path / "agent.env"
    environment.write_text(f"AGENT_IMAGE=sha256:abc\nAGENT_OPTIONS={configured}\n")
    docker = tmp_path / "docker"
    refuse = f'case "$*" in *"--gpus all"*) echo "{REFUSAL}" >&2; exit 125 ;; esac' if refused else ""
    docker.write_text(f"#!/bin/sh\necho $* >>{tmp_path}/calls\n{refuse}\n")
    docker.chmod(0o755)
    done = subprocess.run(
        ["sh", str(SCRIPT)],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "BETA9_AGENT_ENV": str(environment)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.rstrip("\n"), done.stderr


@pytest.mark.parametrize("others", ["", "--volume /run/tailscale:/run/tailscale"])
def test_gpus_are_left_out_while_docker_refuses_them(tmp_path: Path, others: str) -> None:
    """Field case 11.2: the agent, status and doctor must run where the driver is not loaded."""
    for configured in (f"--gpus all {others}".strip(), f"{others} --gpus all".strip()):
        printed, said = options(tmp_path, configured, refused=True)
        assert printed == others
        assert "Docker cannot give a container the GPUs" in said
        assert "driver not loaded" in said
        assert options(tmp_path, configured, refused=False) == (configured, "")


def test_a_machine_without_gpus_starts_no_trial_container(tmp_path: Path) -> None:
    assert options(tmp_path, "--volume /a:/b", refused=True) == ("--volume /a:/b", "")
    assert not (tmp_path / "calls").exists()
