"""Rules between settings, and what is only worth a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.settings import Connection
from tests.unit.settings_cases import MINIMAL, TOKEN, problems, read, ssh, with_


@pytest.fixture(autouse=True)
def _directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_ssh_host_means_ssh(tmp_path: Path) -> None:
    settings = read(ssh(tmp_path))
    assert settings.connection is Connection.SSH
    assert settings.ssh_key is not None
    assert settings.ssh_key.file == tmp_path / "key"
    assert settings.warnings == ()


PRINTED = {
    "tailscale_url": "http://headscale:8080",
    "tailscale_auth": "key-0123456789",
    "token": TOKEN,
    "pool_name": "gpu",
}
"""The flags that `beta9 machine create` fills in for a gateway with a tailnet."""


@pytest.mark.parametrize("in_environment", [False, True])
def test_a_tailnet_that_is_not_used_is_said_with_the_connection_and_why(
    tmp_path: Path, in_environment: bool
) -> None:
    """A8: the very command line that the CLI prints was accepted in silence, and stayed on ssh."""
    flags = {} if in_environment else PRINTED
    names = {"BETA9_TAILSCALE_URL": "http://headscale:8080", "BETA9_TAILSCALE_AUTH": "key-0123456789"}
    given = names if in_environment else {}
    shown = (
        "BETA9_TAILSCALE_URL and BETA9_TAILSCALE_AUTH"
        if in_environment
        else "--tailscale-url and --tailscale-auth"
    )
    for environ, connection, reason in (
        (ssh(tmp_path), Connection.SSH, "default: BETA9_SSH_HOST is set"),
        (MINIMAL, Connection.DIRECT, "default: BETA9_SSH_HOST is not set"),
        ({**MINIMAL, "BETA9_CONNECTION": "direct"}, Connection.DIRECT, "BETA9_CONNECTION"),
    ):
        settings = read({**environ, **given}, **flags)
        assert settings.connection is connection
        assert settings.sources["connection"] == reason
        warning = f"{shown} have no effect: the connection is {connection.value} ({reason}); "
        assert [each for each in settings.warnings if each.startswith(warning)], settings.warnings
        assert "key-0123456789" not in "".join(settings.warnings)


def test_a_tailnet_that_is_used_is_no_warning() -> None:
    settings = read({**MINIMAL, "BETA9_CONNECTION": "tailscale", "BETA9_GATEWAY_HOST": "gateway"}, **PRINTED)
    assert settings.connection is Connection.TAILSCALE
    assert not [each for each in settings.warnings if "no effect" in each]


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"BETA9_SSH_HOST": "", "BETA9_CONNECTION": "ssh"}, "BETA9_SSH_HOST: not set"),
        ({"BETA9_SSH_KEY_FILE": ""}, "BETA9_SSH_KEY_FILE: not set"),
        (
            {"BETA9_SSH_KNOWN_HOSTS": ""},
            "BETA9_SSH_KNOWN_HOSTS: not set, and an unknown host key is never accepted",
        ),
        (
            {"BETA9_GATEWAY_HOST": "gateway.example.com"},
            "BETA9_GATEWAY_HOST: 'gateway.example.com' is not this machine",
        ),
        (
            {"BETA9_STATUS_ADDR": "127.0.0.1:1994"},
            "BETA9_STATUS_ADDR: 127.0.0.1:1994 uses the port of the tunnel's",
        ),
        (
            {"BETA9_SSH_FORWARDS": "1994:redis:6379"},
            "BETA9_SSH_FORWARDS: 127.0.0.1:1994:redis:6379 listens on the same port",
        ),
        (
            {"BETA9_SSH_FORWARDS": "1:a:1,localhost:1:b:2"},
            "BETA9_SSH_FORWARDS: localhost:1:b:2 listens on the same port",
        ),
        ({"BETA9_CONNECTION": "tailscale", "BETA9_SSH_HOST": ""}, "BETA9_GATEWAY_HOST: not set"),
        (
            {"BETA9_REVERSE": "any-port", "BETA9_REVERSE_BIND": "10.0.0.7"},
            "BETA9_REVERSE_BIND: '10.0.0.7' is outside 127.64.0.0/10",
        ),
        ({"BETA9_REVERSE": "any"}, "BETA9_REVERSE: 'any' is not one of auto, any-port, k3s"),
        ({"BETA9_HAIRPIN": "198.18.0.0/24"}, "BETA9_HAIRPIN: '198.18.0.0/24' is not a network of four"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(
    variables: dict[str, str], text: str, tmp_path: Path
) -> None:
    found = problems(ssh(tmp_path, **variables))
    assert len(found) == 1
    assert found[0].startswith(text)


def test_a_broken_setting_is_not_complained_of_twice(tmp_path: Path) -> None:
    assert len(problems(ssh(tmp_path, BETA9_SSH_HOST="-x", BETA9_GATEWAY_PORT="x"))) == 2


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        (
            with_(BETA9_TOKEN_FILEE="x"),
            "'BETA9_TOKEN_FILEE' is not a setting and has no effect; did you mean BETA9_TOKEN_FILE?",
        ),
        (with_(BETA9_XYZZY="x"), "docs/settings.md lists all settings"),
        (with_(), "BETA9_HOSTNAME is not set"),
        (with_(BETA9_K3S="none"), "nothing is offered"),
        (with_(BETA9_DRAIN_TIMEOUT="300"), "stops the agent after 110 s"),
        (with_(BETA9_SSH_FORWARDS="0.0.0.0:1:a:1"), "can be reached from outside"),
        (with_(BETA9_SSH_FORWARDS="1:a:1"), "BETA9_SSH_FORWARDS has no effect"),
        (with_(BETA9_REVERSE="any-port"), "BETA9_REVERSE has no effect"),
    ],
)
def test_what_is_only_odd_is_a_warning(environ: dict[str, str], text: str) -> None:
    assert [warning for warning in read(environ).warnings if text in warning]


def test_the_bootstraps_variables_are_no_warning() -> None:
    environ = with_(
        BETA9_AGENT_IMAGE="x", BETA9_ON_FAILURE="keep", BETA9_K3S_ALLOW_FROM="10.0.0.0/8", BETA9_HOSTNAME="h"
    )
    assert read(environ).warnings == ()


def test_a_secret_file_that_all_may_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o644)
    environ = {"BETA9_POOL_NAME": "gpu", "BETA9_TOKEN_FILE": str(tmp_path / "token")}
    assert [w for w in read(environ).warnings if "mode 0644" in w and "chmod 600" in w]


def test_aws_variables_in_env_files_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AWS_REGION=eu-central-1\n")
    assert [
        w for w in read(MINIMAL).warnings if w.startswith("AWS_REGION") and "set it in the environment" in w
    ]


def test_tuning_reaches_the_policy() -> None:
    settings = read(
        with_(
            BETA9_TUNING="ttl_s=3, keepalive_timeout_s=.5, call_retry_cap_s=0.5",
            BETA9_KEEPALIVE_INTERVAL="0.5",
        ),
        once=True,
    )
    assert (settings.policy.ttl_s, settings.policy.keepalive_timeout_s) == (3.0, 0.5)
