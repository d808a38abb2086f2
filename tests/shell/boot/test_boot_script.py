"""cloud-init/boot.sh behind script-head.sh, as a start-up script for clouds without cloud-init."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.provisioning.user_data import start_script
from tests.shell.boot.boot_machine import BOOT, HEAD, Machine, tarball


@pytest.fixture
def scripted(machine: Machine, tmp_path: Path) -> Machine:
    settings = {"BETA9_SOURCE": tarball(tmp_path / "b.tar.gz"), "BETA9_SSH_KNOWN_HOSTS": "h $(id) `id`\n\nb"}
    machine.script = tmp_path / "script"
    machine.script.write_text(start_script(HEAD.read_text(), BOOT.read_text(), settings))
    return machine


def test_the_script_writes_the_settings_and_boots(scripted: Machine) -> None:
    done = scripted.boot()
    assert done.returncode == 0, done.stderr
    written = scripted.root / "etc/beta9-worker/worker.env"
    assert written.stat().st_mode & 0o777 == 0o600
    assert written.read_text().splitlines()[2:5] == ["BETA9_SSH_KNOWN_HOSTS='h $(id) `id`", "", "b'"]
    assert "installer of" in done.stdout


def test_at_later_boots_the_script_keeps_modified_settings(scripted: Machine) -> None:
    scripted.boot()
    written = scripted.root / "etc/beta9-worker/worker.env"
    written.write_text(f"{written.read_text()}BETA9_LOG_LEVEL=debug\n")
    done = scripted.boot()
    assert done.returncode == 0
    assert "worker.env exists and is kept" in done.stdout
    assert "BETA9_LOG_LEVEL=debug" in written.read_text()
    assert [path.name for path in written.parent.iterdir()] == ["worker.env"]
