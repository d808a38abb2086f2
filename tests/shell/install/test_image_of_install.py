"""Where `docker run … IMAGE install` put the bootstrap, the agent runs from that image, after a reboot, too."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.shell.install.fakehost import BOOTSTRAP, Host

IMAGE = f"sha256:{7:064x}"


def tree(host: Host) -> Path:
    """A release as `install` leaves it: the bootstrap, and beside it the id of the image that it came out of."""
    release = host.root / "opt/beta9-worker/releases/0123456789ab"
    shutil.copytree(BOOTSTRAP, release / "bootstrap")
    (release / "agent-image").write_text(f"{IMAGE}\n", encoding="utf-8")
    del host.settings["BETA9_AGENT_IMAGE"]
    host.write_settings()
    return release / "bootstrap/install.sh"


def test_the_image_that_is_noted_is_used_without_a_registry(host: Host) -> None:
    (host.state / "docker.images").write_text(f"{IMAGE}\n", encoding="utf-8")
    done = host.bash(tree(host), "--env-file", str(host.env_file))
    assert done.returncode == 0, done.stderr + host.said()
    agent = (host.root / "var/lib/beta9-worker/bootstrap/agent.env").read_text(encoding="utf-8")
    assert "AGENT_IMAGE=sha256:" in agent
    asked = host.asked("docker")
    assert f"image inspect {IMAGE}" in asked
    assert [call for call in asked if call.startswith(("build", "pull", "load", "--config"))] == []


def test_an_image_that_is_gone_is_said(host: Host) -> None:
    done = host.bash(tree(host), "--env-file", str(host.env_file))
    assert done.returncode == 1
    assert f"Docker has no image {IMAGE}" in done.stderr + host.said()
    assert host.timeline["failed_stage"] == "agent-image"


def test_settings_that_name_an_image_go_before_it(host: Host) -> None:
    named = host.settings["BETA9_AGENT_IMAGE"]
    installer = tree(host)
    host.write_settings(BETA9_AGENT_IMAGE=named)
    done = host.bash(installer, "--env-file", str(host.env_file))
    assert done.returncode == 0, done.stderr + host.said()
    assert any(call.startswith("load") for call in host.asked("docker"))
