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
        ("#cloud-config\n", "\ufeff#cloud-config\n", "begins with a byte order mark"),
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


def added(line: str) -> str:
    """Return good user data with one more line of worker.env."""
    return user_data.cloud_config(TEMPLATE, GOOD).replace(
        "      # settings\n", f"      # settings\n      {line}\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        "https_proxy=http://proxy.example.com:3128",
        "HTTP_PROXY=proxy.example.com:3128/",
        "http_proxy = 'http://[fd00::1]:3128'",
        "NO_PROXY=.example.com,10.0.0.0/8",
        "BETA9_FILES_DIR=/srv/my files",
        "BETA9_FILES_DIR='/srv/it\\'s'",
        "export BETA9_LOG_LEVEL=debug # for now",
    ],
)
def test_what_the_machine_reads_is_accepted(check: Check, line: str) -> None:
    """Field cases 2.7, 14.1."""
    assert check(added(line))[0] == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("https_proxy=http://user:sEcReT@proxy:3128", "https_proxy: the cloud would store this secret"),
        ("HTTPS_PROXY=user:sEcReT@proxy:3128", "HTTPS_PROXY: the cloud would store this secret"),
        ("https_proxy=socks5://proxy:1080", "https_proxy: text of 19 characters is not http://HOST:PORT"),
        ("https_proxy=http://user:sEc ReT@proxy:3128", "is not http://HOST:PORT"),
        ("all_proxy=http://proxy:3128", "'all_proxy' is not a setting"),
        (
            "BETA9_AGENT_IMAGE=https://u:sEcReT@h/x.tar?X-Amz-Signature=sEcReT",
            "BETA9_AGENT_IMAGE: 'https://h/x.tar' is neither",
        ),
    ],
)
def test_what_it_would_refuse_is_refused_without_its_secrets(check: Check, line: str, reason: str) -> None:
    """Field cases 4.6, 14.1."""
    code, out, err = check(added(line))
    assert (code, out) == (78, "")
    assert reason in err
    assert "sEcReT" not in err
    assert "ReT" not in err
