"""The expressions with which Terraform checks settings at plan time: they never refuse what the machine accepts."""

from __future__ import annotations

import re

import pytest

from agent.provisioning.bootstrap_settings import problem
from agent.settings.fields import BOOTSTRAP_VARIABLES, FIELDS, Field, known_variables
from scripts.settings_patterns import patterns

SAMPLES = (
    *(
        "0",
        "1",
        "007",
        "22",
        "65535",
        "65536",
        "99999",
        "3500",
        "3501",
        "90s",
        "0.5",
        "1e3",
        "-1",
        "1m",
        "500m",
    ),
    *("1Gi", "16G", "0Mi", "yes", "TRUE", "none", "Auto", "ssh", "SSH", "required", "drain", "Debug", "JSON"),
    *(
        "gpu",
        "gpu pool",
        "gpu-",
        "a_b.c",
        "1165a9b6",
        "1165A9B6",
        "localhost",
        "localhost:31994",
        "::1",
        "[::1]",
    ),
    *(
        "[2001:db8::7]:31994",
        "fe80::1%eth0",
        "192.0.2.7",
        "192.0.2.0/24",
        "198.18.0.0/30",
        "10.142.0.0/16",
        "192.0.2.7,2001:db8::/32",
        "*",
        "auto",
    ),
    *(
        "6379:redis:6379",
        "127.0.0.1:6379:redis:6379, [::1]:80:[2001:db8::7]:80,",
        "x:y",
        "-oProxyCommand",
        "a@b",
    ),
    *(
        "/srv/my files",
        "relative",
        "~/file",
        "/a:b",
        "/a\tb",
        "group/hook",
        "my group/hook",
        "grp/a/b",
        "hook",
    ),
    *(
        "http://169.254.169.254",
        "https://headscale.example.com/path/",
        "ftp://x",
        "http://user@host",
        "a" * 64,
    ),
    *(
        "SHA256:" + "A" * 43,
        f"SHA256:{'A' * 43}, SHA256:{'b' * 43}=",
        "SHA256:abc",
        "MD5:aa",
        "single",
        "poweroff",
    ),
)
REFUSED = {
    "BETA9_KEEPALIVE_INTERVAL": "1m",
    "BETA9_DRAIN_TIMEOUT": "soon",
    "BETA9_RESERVE_MEMORY": "16G",
    "BETA9_RESERVE_CPU": "half",
    "BETA9_GATEWAY_PORT": "65536",
    "BETA9_SSH_TARGET": "localhost",
    "BETA9_SSH_FORWARDS": "6379",
    "BETA9_STATUS_ADDR": "9464",
    "BETA9_MACHINE_ID": "1165A9B6",
    "BETA9_K3S": "yes",
    "BETA9_CONNECTION": "vpn",
    "BETA9_REBALANCE": "stop",
    "BETA9_LOG_LEVEL": "loud",
    "BETA9_AWS_LAUNCH_HOOK": "hook",
    "BETA9_TAILSCALE_URL": "headscale.example.com",
    "BETA9_K3S_TOKEN_FILE": "token",
    "BETA9_STATE_DIR": "/var/lib/100%",
    "BETA9_FILES_DIR": "files",
    "BETA9_SECRETS_TIMEOUT": "3501",
    "BETA9_EXPECTED_GPUS": "08",
    "BETA9_GPU_TIMEOUT": "5m",
    "BETA9_MIN_FREE_MIB": "20Gi",
    "BETA9_DEADLINE_SCALE": "1.5",
    "BETA9_MIG_STRATEGY": "double",
    "BETA9_K3S_ALLOW_FROM": "office",
    "BETA9_K3S_CLUSTER_CIDR": "10.142.0.0",
    "BETA9_K3S_SERVICE_CIDR": "10.0.0.0/8",
    "BETA9_K3S_SHA256": "abc",
}


def fits(variable: str, value: str) -> bool:
    return not patterns()[variable] or re.fullmatch(patterns()[variable], value) is not None


def test_every_variable_has_an_entry() -> None:
    assert set(patterns()) == set(known_variables())


@pytest.mark.parametrize(
    "field", [each for each in FIELDS if not each.file_variant], ids=lambda each: each.name
)
def test_what_the_agent_accepts_fits(field: Field) -> None:
    for sample in (*SAMPLES, *([field.default] if field.default else [])):
        try:
            field.parse(sample)
        except ValueError:
            continue
        assert fits(field.variable, sample), (field.variable, sample)


@pytest.mark.parametrize("variable", BOOTSTRAP_VARIABLES)
def test_what_the_bootstrap_accepts_fits(variable: str) -> None:
    for sample in SAMPLES:
        assert problem(variable, sample) or fits(variable, sample), (variable, sample)


@pytest.mark.parametrize(("variable", "value"), REFUSED.items())
def test_what_the_machine_refuses_does_not_fit(variable: str, value: str) -> None:
    assert not fits(variable, value)
    assert variable not in BOOTSTRAP_VARIABLES or problem(variable, value)


def test_the_documented_defaults_of_the_bootstrap_fit() -> None:
    for variable, each in BOOTSTRAP_VARIABLES.items():
        if re.fullmatch(r"`[a-z0-9]+`", each.default):
            assert fits(variable, each.default.strip("`")), variable
