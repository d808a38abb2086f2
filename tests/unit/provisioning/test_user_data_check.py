"""`beta9-worker user-data --check`: mistakes in user data that was filled in by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from agent import cli
from agent.core.provisioning import cloud_config, user_data
from tests.unit.provisioning.user_data_cases import GOOD, SECRET, TEMPLATE

Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Check:
    """Check a text saved as user-data.yaml; return exit code, stdout and stderr."""

    def run(text: str, *arguments: str) -> tuple[int, str, str]:
        file = tmp_path / "user-data.yaml"
        file.write_text(text, encoding="utf-8")
        code = cli.main(["user-data", "--check", str(file), *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_what_is_rendered_passes_the_check(check: Check) -> None:
    code, out, err = check(user_data.cloud_config(TEMPLATE, GOOD))
    assert (code, err) == (0, "")
    assert re.search(r"user-data.yaml: valid, \d+ bytes", out)


def test_the_template_that_nobody_filled_in_is_refused_with_all_that_is_missing(check: Check) -> None:
    code, out, err = check(TEMPLATE)
    assert (code, out) == (78, "")
    assert "BETA9_POOL_NAME" in err
    assert "BETA9_SOURCE" in err


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("runcmd:", "runcmds:", "'runcmds' is not a cloud-config key"),
        ("    permissions: '0600'", "    permission: '0600'", "'permission' is not a write_files key"),
        ("#cloud-config\n", "\n#cloud-config\n", "the first line is not #cloud-config"),
        ("      BETA9_POOL_NAME=gpu", "      BETA9_POOL=gpu", "did you mean BETA9_POOL_NAME?"),
        ("      # settings", "     # settings", "BETA9_POOL_NAME is indented more than the first line"),
        ("      BETA9_POOL_NAME", "    BETA9_POOL_NAME", "not valid YAML"),
        (
            "/etc/beta9-worker/worker.env",
            "/etc/worker.env",
            "nothing in it writes /etc/beta9-worker/worker.env",
        ),
        ("ssm:///beta9/token", SECRET, "this secret in plain text"),
    ],
)
def test_slips_of_the_hand_are_found(check: Check, old: str, new: str, reason: str) -> None:
    text = user_data.cloud_config(TEMPLATE, GOOD)
    assert old in text
    code, out, err = check(text.replace(old, new, 1))
    assert (code, out) == (78, "")
    assert reason in err
    assert SECRET not in err


def test_a_text_that_is_too_long_is_found(check: Check) -> None:
    code, _, err = check(user_data.cloud_config(TEMPLATE, GOOD) + "#" * 16384, "--cloud", "aws")
    assert code == 78
    assert "aws accepts at most 16384" in err


def test_keys_of_one_s_own_are_let_through() -> None:
    text = TEMPLATE + "ssh_authorized_keys: [ssh-ed25519 AAAA]\n"
    assert cloud_config.problems(text, yaml.safe_load(text)) == []


def test_what_is_no_mapping_is_refused() -> None:
    assert len(cloud_config.problems("#cloud-config\n- a\n", ["a"])) == 1
