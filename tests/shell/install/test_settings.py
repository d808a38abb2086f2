"""Settings are data: nothing in worker.env is executed, and values are read exactly as written."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.provisioning.env_file import read_settings
from tests.shell.install.fakehost import BOOTSTRAP, Host

SHOW = """
for name in "${!BETA9_SETTINGS[@]}"; do printf '%s=%s\\0' "$name" "${BETA9_SETTINGS[$name]}"; done
"""
HOSTILE = {
    "command": "BETA9_X=$(touch {pwned})",
    "backticks": "BETA9_X=`touch {pwned}`",
    "in single quotes": "BETA9_X='$(touch {pwned})'",
    "in double quotes": 'BETA9_X="$(touch {pwned})"',
    "semicolon": "BETA9_X=a; touch {pwned}",
    "subscript": "BETA9_X=a[$(touch {pwned})]",
    "several lines": "BETA9_X='one\ntwo $(touch {pwned})\n#three\n\nBETA9_Y=no'",
    "equals signs": "BETA9_X=abc==",
    "comment": "BETA9_X=abc # not this",
    "hash in it": "BETA9_X=a#b",
    "blanks": "  BETA9_X =  abc  ",
    "export": "export BETA9_X=abc",
    "quote in quotes": "BETA9_X='it\\'s'",
    "backslash": "BETA9_X='a\\b'",
    "escapes": 'BETA9_X="a\\"b\\nc"',
    "windows line ends": "BETA9_X=abc\r\nBETA9_Y='d'\r",
    "empty": "BETA9_X=",
    "no newline at the end, umlaut": "BETA9_X=ä",
    "glob": "BETA9_X=/etc/*",
    "dollar": "BETA9_X=$HOME",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_bootstrap_and_the_agent_read_the_same_values(host: Host, text: str) -> None:
    pwned = host.directory / "pwned"
    text = text.replace("{pwned}", str(pwned))
    host.env_file.write_text(text, newline="")
    done = host.step(SHOW)
    assert done.returncode == 0, done.stderr
    read = dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)
    assert (read, []) == read_settings(text)
    assert not pwned.exists()


@pytest.mark.parametrize(
    "text", ["BETA9_X='never closed", "BETA9_X='a' b", "secret without a name", 'BETA9_X="a']
)
def test_a_syntax_error_is_reported_by_line_and_its_text_never_shown(host: Host, text: str) -> None:
    host.env_file.write_text(f"# first\n{text}\n")
    done = host.step(SHOW)
    assert done.returncode == 1
    assert "line 2" in done.stderr
    assert "secret" not in done.stderr
    assert "never" not in done.stderr.replace("never closed", "")


def test_the_environment_overrides_worker_env_and_that_the_pins(host: Host) -> None:
    host.env_file.write_text("BETA9_K3S_VERSION=mine\nBETA9_EMPTY=\n")
    body = "setting BETA9_K3S_VERSION; echo; setting BETA9_EMPTY default; echo; setting BETA9_K3S_URL"
    version, empty, url = host.step(body).stdout.splitlines()
    assert (version, empty) == ("mine", "default")
    assert url.startswith("https://")
    done = host.step("export BETA9_K3S_VERSION=environment; setting BETA9_K3S_VERSION")
    assert done.stdout == "environment"


@pytest.mark.parametrize("value", ["a[$(touch {pwned})]", "08", "1e3", "-1", "x", "99999999"])
def test_only_numbers_reach_shell_arithmetic(host: Host, value: str) -> None:
    pwned = host.directory / "pwned"
    host.write_settings(BETA9_DEADLINE_SCALE=value.replace("{pwned}", str(pwned)))
    done = host.install("--steps", str(host.steps(one=("", 60, ":"))))
    assert done.returncode == 1
    assert "BETA9_DEADLINE_SCALE is not a whole number" in done.stderr
    host.write_settings(BETA9_DEADLINE_SCALE="1", BETA9_SECRETS_TIMEOUT=value.replace("{pwned}", str(pwned)))
    assert host.install().returncode == 1
    assert "BETA9_SECRETS_TIMEOUT is not a whole number" in host.console_text()
    assert not pwned.exists()


@pytest.mark.parametrize("kind", ["missing", "directory", "not text"])
def test_settings_that_cannot_be_read_are_an_error(host: Host, kind: str) -> None:
    """Field case 2.5: also for a dry run, which must not show a plan without the settings."""
    file = host.directory / "mine.env"
    if kind == "directory":
        file.mkdir()
    elif kind == "not text":
        file.write_bytes(b"BETA9_POOL_NAME=gpu\n# \xe4\n")
    for options in (("--dry-run",), ()):
        done = host.install(*options, "--env-file", str(file))
        assert done.returncode == 1
        assert f"{file} cannot be read" in done.stderr
        assert "on failure:" not in done.stdout
    assert host.timeline["failed_stage"] == "settings"


def test_a_link_that_leads_nowhere_is_not_taken_for_no_settings(host: Host) -> None:
    """Field case 2.5, of the file that is read when none is named."""
    host.env_file.symlink_to(Path("/not/here"))
    done = host.bash(BOOTSTRAP / "install.sh", "--dry-run")
    assert done.returncode == 1
    assert f"{host.env_file} cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("text", "powers_off"),
    [
        ("this line is broken\nexport BETA9_ON_FAILURE=poweroff\n", True),
        ("this line is broken\nBETA9_ON_FAILURE = poweroff\n", True),
        ("BETA9_ON_FAILURE='poweroff'\nBETA9_TOKEN='never closed\n", True),
        ("=\nBETA9_ON_FAILURE=keep\nBETA9_ON_FAILURE=poweroff\n", True),
        ("=\nBETA9_ON_FAILURE=poweroff\nBETA9_ON_FAILURE=keep\n", False),
        ("=\nBETA9_ON_FAILURE=poweroffx\n", False),
        ("=\nBETA9_SSH_KEY='\nBETA9_ON_FAILURE=poweroff\n'\n", False),
    ],
)
def test_the_failure_policy_counts_if_the_settings_cannot_be_read(
    host: Host, text: str, powers_off: bool
) -> None:
    """Field case 2.6."""
    host.env_file.write_text(text)
    done = host.install()
    assert done.returncode == 1
    assert "line 1" in host.console_text() or "line 2" in host.console_text()
    assert ("--no-block poweroff" in host.calls("systemctl")) == powers_off
    assert "worker.env, line" in host.console_text()


def test_the_failure_policy_counts_before_the_settings_are_needed(host: Host) -> None:
    """Field case 2.6: whatever fails first."""
    host.write_settings(BETA9_ON_FAILURE="poweroff")
    (host.root / "var/log/beta9-worker").write_text("in the way")
    assert host.install().returncode == 1
    assert "--no-block poweroff" in host.calls("systemctl")
