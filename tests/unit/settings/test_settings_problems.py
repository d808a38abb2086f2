"""Settings that cannot work are refused by name, with the value or its shape and the fix, but never a secret."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import SettingsError
from agent.settings.fields import FIELDS
from tests.unit.settings_cases import MINIMAL, TOKEN, problems, read, with_


@pytest.fixture(autouse=True)
def _directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.fault(61)
def test_fault_61_every_setting_wrong_at_once_is_one_report_naming_each(tmp_path: Path) -> None:
    secret = "a secret\nof two lines"
    environ = {field.variable: "-\x00?" for field in FIELDS}
    environ |= {"BETA9_TOKEN": secret, "BETA9_K3S_TOKEN": f"{secret}\x7f", "BETA9_SSH_KEY": secret}
    environ |= {"BETA9_SSH_KNOWN_HOSTS": secret, "BETA9_PROVIDER_NAME": "", "BETA9_TUNING": "ttl=1"}
    found = problems(environ, env_file="nowhere")
    for field in FIELDS:
        named = [problem for problem in found if problem.startswith(f"{field.variable}:")]
        assert len(named) == 1, (field.variable, found)
        fix = ("give", "use", "write", "did you mean", "is not one of", "is not a file path")
        assert any(word in named[0] for word in fix), named[0]
    report = "\n".join(found)
    for part in (secret, "a secret", "of two lines", "\x00", "\x7f"):
        assert part not in report
    assert "text of 22 characters with a line break" in report
    assert str(SettingsError(*found)).splitlines() == list(found)


@pytest.mark.fault(62)
@pytest.mark.parametrize("token", ['it\'s "quoted"', "$(id)`id`;|&<>*?~!#\\", "x" * 10_240, "caf\xe9"])
def test_fault_62_odd_tokens_are_carried_unchanged(token: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{token}\r\n")
    assert read({"BETA9_TOKEN": token, "BETA9_POOL_NAME": "gpu"}).token.value == token
    read({"BETA9_TOKEN_FILE": str(tmp_path / "token"), "BETA9_POOL_NAME": "gpu"})


@pytest.mark.fault(62)
@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("two\nlines", "a line break"),
        ("tab\there", "control characters"),
        ("nul\x00", "control characters"),
        ("csi\x9b", "control characters"),
        ("t\u014dken", "outside ISO 8859-1"),
    ],
)
def test_fault_62_tokens_that_no_header_can_carry_are_refused_with_the_reason(
    token: str, reason: str
) -> None:
    found = problems({"BETA9_TOKEN": token, "BETA9_POOL_NAME": "gpu"})
    assert len(found) == 1
    assert found[0].startswith("BETA9_TOKEN: ")
    assert reason in found[0]
    assert token not in found[0]


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("BETA9_GATEWAY_PORT", "abc", "'abc' is not a port"),
        ("BETA9_GATEWAY_PORT", "0", "is not a port"),
        ("BETA9_GATEWAY_PORT", "65536", "is not a port"),
        ("BETA9_GATEWAY_PORT", "\u0661\u0669\u0669\u0664", "is not a port"),
        ("BETA9_GATEWAY_PORT", "1" * 5000, "text of 5000 characters is not a port"),
        ("BETA9_MACHINE_ID", "1165A9B6", "lower case"),
        ("BETA9_MACHINE_ID", "1165a9b6\n", "is not a machine id"),
        ("BETA9_MACHINE_ID", "xyz", "8 hexadecimal"),
        ("BETA9_PROVIDER_NAME", "", "is not a valid name"),
        ("BETA9_PROVIDER_NAME", "a:b", "is not a valid name"),
        ("BETA9_POOL_NAME", "gpu pool", "is not a valid name"),
        ("BETA9_GATEWAY_HOST", "http://localhost", "is a URL"),
        ("BETA9_GATEWAY_HOST", "localhost:1994", "contains a port"),
        ("BETA9_SSH_HOST", "root@gateway", "BETA9_SSH_USER"),
        ("BETA9_SSH_HOST", "-oProxyCommand=touch /tmp/x", "is not a host name"),
        ("BETA9_SSH_HOST", "a b", "is not a host name"),
        ("BETA9_SSH_HOST", "fe80::1%a b", "ssh does not accept"),
        ("BETA9_SSH_USER", "-lroot", "is not a login name"),
        ("BETA9_SSH_USER", "a\tb", "is not a login name"),
        ("BETA9_CONNECTION", "vpn", "is not one of ssh, tailscale, direct"),
        ("BETA9_SSH_TARGET", "localhost", "is not host:port"),
        ("BETA9_SSH_TARGET", "2001:db8::1:80", "is not host:port"),
        ("BETA9_SSH_FORWARDS", "6379:redis:6379,nonsense", "'nonsense'"),
        ("BETA9_SSH_FORWARDS", "6379:-oX:6379", "is not a host name"),
        ("BETA9_SSH_HOST_KEY_FINGERPRINT", "MD5:00:11", "SHA256:"),
        ("BETA9_REVERSE_BIND", "*", "use auto"),
        ("BETA9_K3S", "maybe", "is not one of auto, required, none"),
        ("BETA9_KEEPALIVE_INTERVAL", "-1", "is not a time"),
        ("BETA9_KEEPALIVE_INTERVAL", "nan", "is not a time"),
        ("BETA9_KEEPALIVE_INTERVAL", "280", "use at most 260 s"),
        ("BETA9_RESERVE_CPU", "1 core", "millicores"),
        ("BETA9_RESERVE_MEMORY", "1024", "1Gi"),
        ("BETA9_RESERVE_MEMORY", "1GB", "1Gi"),
        ("BETA9_INTERRUPTION", "gcp", "is not one of auto, aws, none"),
        ("BETA9_METADATA_ENDPOINT", "169.254.169.254", "is not a base URL"),
        ("BETA9_STATE_DIR", '/var/"x"', "contains a character that is special"),
        ("BETA9_STATUS_ADDR", "9464", "is not host:port"),
        ("BETA9_LOG_FORMAT", "xml", "is not one of json, text"),
        ("BETA9_LOG_LEVEL", "loud", "is not one of"),
        ("BETA9_TUNING", "ttl=3", "did you mean ttl_s?"),
        ("BETA9_TUNING", "ttl_s=soon", "ttl_s=NUMBER"),
        ("BETA9_TUNING", "drain_timeout_s=3", "BETA9_DRAIN_TIMEOUT"),
        ("BETA9_TOKEN", "vault://x", "not a supported reference"),
        ("BETA9_TOKEN", "ssm://", "does not name a secret"),
        ("BETA9_TOKEN", "secretsmanager://id#", "does not name a secret"),
        ("BETA9_SSH_KEY", "/root/.ssh/id_ed25519", "BETA9_SSH_KEY_FILE"),
        ("BETA9_TOKEN_FILE", "/nowhere/token", "/nowhere/token cannot be read: No such file"),
        ("BETA9_SSH_KEY_FILE", "/", "is not a regular file"),
    ],
)
def test_a_wrong_value_is_refused_by_name_with_the_fix(variable: str, value: str, reason: str) -> None:
    others = {name: text for name, text in MINIMAL.items() if not variable.startswith(name)}
    found = problems({**others, variable: value})
    assert len(found) == 1
    assert found[0].startswith(f"{variable}: ")
    assert reason in found[0]


def test_missing_settings_are_named_with_the_ways_to_give_them() -> None:
    token, pool = problems({})
    assert token.startswith(
        "BETA9_TOKEN: not set; give the machine token, from 'beta9 machine create' (with "
    )
    assert all(way in token for way in ("BETA9_TOKEN_FILE", "--token", "/etc/beta9-worker/secrets/token"))
    assert pool.startswith("BETA9_POOL_NAME: not set")


def test_a_flag_is_named_as_a_flag() -> None:
    assert problems(MINIMAL, gateway_port="x")[0].startswith("--gateway-port: 'x' is not a port")


def test_a_secret_in_place_of_its_files_path_is_not_shown(tmp_path: Path) -> None:
    for text in (TOKEN, "x" * 5000, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"):
        found = problems({"BETA9_POOL_NAME": "gpu", "BETA9_TOKEN_FILE": text})
        assert "is not a file path" in found[0]
        assert text[:30] not in found[0]


def test_a_secret_in_the_wrong_setting_is_not_shown() -> None:
    assert TOKEN[:20] not in problems(with_(BETA9_MACHINE_ID=TOKEN))[0]


def test_value_and_file_together_are_one_too_many_in_one_source_only(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    both = with_(BETA9_TOKEN_FILE=str(tmp_path / "token"))
    assert problems(both)[0] == "BETA9_TOKEN: set together with BETA9_TOKEN_FILE; keep only one of them"
    (tmp_path / ".env").write_text(f"BETA9_TOKEN_FILE={tmp_path}/token\n")
    assert read(MINIMAL).token.value == TOKEN


def test_an_unreadable_file_is_said_with_its_path(tmp_path: Path) -> None:
    directory = tmp_path / "closed"
    directory.mkdir()
    (directory / "token").write_text(TOKEN)
    (directory / "token").chmod(0)
    with unprivileged():
        found = problems({"BETA9_POOL_NAME": "gpu", "BETA9_TOKEN_FILE": f"{directory}/token"})
    assert "Permission denied" in found[0]


@contextmanager
def unprivileged() -> Iterator[None]:
    """Give up root's rights for a moment: root could read every file."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)  # nobody
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
