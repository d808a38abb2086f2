"""A command that a message tells to run has the options in use, so that it can be followed literally."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import main
from agent.commands import install
from agent.errors import SettingsError
from tests import ROOT
from tests.unit.doctor_cases import Make, case_maker


@pytest.fixture
def make_case(tmp_path: Path) -> Iterator[Make]:
    yield from case_maker(tmp_path)


def test_leave_names_the_state_directory_that_it_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Field case A6's kind: `run` would look for the stop marker elsewhere."""
    directory = tmp_path / "a state"
    assert main(["leave", "--state-dir", str(directory)]) == 0
    assert f"BETA9_STATE_DIR='{directory}' beta9-worker run --rejoin" in capsys.readouterr().out
    monkeypatch.setenv("BETA9_STATE_DIR", str(directory))
    assert main(["leave"]) == 0
    assert "before 'beta9-worker run --rejoin'" in capsys.readouterr().out


def test_the_doctors_authorize_prints_the_line_of_this_machine(
    make_case: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = make_case(
        BETA9_MACHINE_ID="1165a9b6",
        BETA9_SSH_HOST="gateway",
        BETA9_SSH_TARGET="localhost:1994",
        BETA9_SSH_FORWARDS="6379:redis:6379,[::1]:1993:localhost:1993",
    )
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    words = shlex.split(case.authorize_command.replace("PUBLIC_KEY_FILE", f"{key}.pub"))
    assert main(words[1:]) == 0
    line = capsys.readouterr().out
    opens = re.findall(r'permitopen="([^"]+)"', line)
    assert opens[:3] == ["localhost:1994", "redis:6379", "localhost:1993"]


def test_the_doctor_sends_people_to_the_agent_that_it_looked_at(make_case: Make) -> None:
    assert (
        make_case(BETA9_STATUS_ADDR="127.0.0.1:1").status_command
        == "beta9-worker status --address 127.0.0.1:1"
    )
    assert make_case(BETA9_STATUS_ADDR="127.0.0.1:9464").status_command == "beta9-worker status"


def test_install_repeats_its_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        install._check_host(tmp_path, "/etc/other env")
    assert str(error.value).endswith("install --env-file '/etc/other env'")


@pytest.mark.parametrize(
    ("env_file", "expected"),
    [("", "sudo /x/install.sh"), ("/etc/a b", r"sudo /x/install.sh --env-file /etc/a\ b")],
)
def test_the_installer_says_how_to_run_it_again(env_file: str, expected: str) -> None:
    script = f". {ROOT}/bootstrap/lib/failure.sh; BETA9_BOOTSTRAP=/x BETA9_ENV_FILE='{env_file}'; same_run"
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    assert done.stdout == expected
