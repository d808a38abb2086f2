"""Run `beta9-worker user-data` without any setting of this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from agent import cli
from tests.unit.provisioning.user_data_cases import CommandResult, UserDataCommand


@pytest.fixture(autouse=True)
def no_settings_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BETA9_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def user_data_of(capsysbinary: pytest.CaptureFixture[bytes]) -> UserDataCommand:
    """Run the command with settings given by --set, and further arguments."""

    def run(settings: Mapping[str, str], *arguments: str) -> CommandResult:
        options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        code = cli.main(["user-data", *options, *arguments])
        out, err = capsysbinary.readouterr()
        return code, out, err.decode()

    return run
