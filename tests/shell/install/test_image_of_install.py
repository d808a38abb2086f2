"""If `docker run … IMAGE install` copied the bootstrap, the agent runs from that image, even after a reboot."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.shell.install.fakehost import BOOTSTRAP, Host

IMAGE = f"sha256:{7:064x}"


def tree(host: Host) -> Path:
    """Create a release like `install` does: the bootstrap, and next to it the id of its image; return install.sh."""
    release = host.root / "opt/beta9-worker/releases/0123456789ab"
    shutil.copytree(BOOTSTRAP, release / "bootstrap")
    (release / "agent-image").write_text(f"{IMAGE}\n", encoding="utf-8")
    del host.settings["BETA9_AGENT_IMAGE"]
    host.write_settings()
    return release / "bootstrap/install.sh"


def test_the_recorded_image_is_used_without_a_registry(host: Host) -> None:
    (host.state / "docker.images").write_text(f"{IMAGE}\n", encoding="utf-8")
    done = host.bash(tree(host), "--env-file", str(host.env_file))
    assert done.returncode == 0, done.stderr + host.console_text()
    agent = (host.root / "var/lib/beta9-worker/bootstrap/agent.env").read_text(encoding="utf-8")
    assert "AGENT_IMAGE=sha256:" in agent
    calls = host.calls("docker")
    assert f"image inspect {IMAGE}" in calls
    assert [call for call in calls if call.startswith(("build", "pull", "load", "--config"))] == []


def test_a_missing_image_is_reported(host: Host) -> None:
    done = host.bash(tree(host), "--env-file", str(host.env_file))
    assert done.returncode == 1
    assert f"Docker has no image {IMAGE}" in done.stderr + host.console_text()
    assert host.timeline["failed_stage"] == "agent-image"


def test_an_image_in_the_settings_takes_precedence(host: Host) -> None:
    named = host.settings["BETA9_AGENT_IMAGE"]
    installer = tree(host)
    host.write_settings(BETA9_AGENT_IMAGE=named)
    done = host.bash(installer, "--env-file", str(host.env_file))
    assert done.returncode == 0, done.stderr + host.console_text()
    assert any(call.startswith("load") for call in host.calls("docker"))
