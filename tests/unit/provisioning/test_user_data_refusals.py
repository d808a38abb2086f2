"""`beta9-worker user-data` refuses settings that cannot work, and secrets in plain text."""

from __future__ import annotations

import pytest

from tests.unit.provisioning.user_data_cases import (
    GOOD,
    PLAIN_KEY,
    SECRET,
    SUM,
    UserDataCommand,
    without,
    worker_env,
)


def test_all_that_is_missing_is_named_at_once(user_data_of: UserDataCommand) -> None:
    code, out, err = user_data_of({})
    assert (code, out) == (78, b"")
    for missing in ("POOL_NAME: not set", "SOURCE: not set", "SSH_HOST: not set", "SSH_KNOWN_HOSTS: not set"):
        assert f"beta9-worker: BETA9_{missing}" in err


def test_without_secrets_it_works_and_says_who_will_wait(user_data_of: UserDataCommand) -> None:
    code, out, err = user_data_of(without("BETA9_TOKEN", "BETA9_SSH_KEY"))
    assert code == 0
    assert worker_env(out) == without("BETA9_TOKEN", "BETA9_SSH_KEY")
    assert "without ssh_key and token, the machine will wait" in err
    assert "push-secrets" in err


def test_in_a_tailnet_its_key_is_what_a_machine_waits_for(user_data_of: UserDataCommand) -> None:
    settings = {
        "BETA9_CONNECTION": "tailscale",
        "BETA9_GATEWAY_HOST": "gateway.tail.example",
        "BETA9_POOL_NAME": "gpu",
    }
    code, _, err = user_data_of({**settings, "BETA9_SOURCE": GOOD["BETA9_SOURCE"]})
    assert code == 0
    assert "without tailscale_auth and token, the machine will wait" in err
    plain = {**settings, "BETA9_SOURCE": GOOD["BETA9_SOURCE"], "BETA9_TAILSCALE_AUTH": SECRET}
    code, out, err = user_data_of(plain)
    assert (code, out) == (78, b"")
    assert "BETA9_TAILSCALE_AUTH: the cloud would store this secret in plain text" in err


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BETA9_TOKEN", SECRET),
        ("BETA9_K3S_TOKEN", SECRET),
        ("BETA9_SSH_KEY", PLAIN_KEY),
        ("BETA9_FILES_DIR", f"/x/{PLAIN_KEY}"),
        ("BETA9_SOURCE", f"https://me:{SECRET}@example.com/b.tar.gz{SUM}"),
    ],
)
def test_a_secret_in_plain_text_is_refused_and_not_shown(
    user_data_of: UserDataCommand, variable: str, value: str
) -> None:
    code, out, err = user_data_of({**GOOD, variable: value})
    assert (code, out) == (78, b"")
    assert f"beta9-worker: {variable}: " in err
    assert SECRET not in err
    assert "openssh-key" not in err
    if "FILES_DIR" not in variable:
        assert "this secret in plain text" in err
        assert "push-secrets" in err


def test_a_plain_token_is_written_out_for_who_insists_with_a_warning(user_data_of: UserDataCommand) -> None:
    code, out, err = user_data_of({**GOOD, "BETA9_TOKEN": SECRET}, "--allow-plain-secrets")
    assert code == 0
    assert worker_env(out)["BETA9_TOKEN"] == SECRET
    assert "user-data: BETA9_TOKEN is included in plain text" in err
    assert SECRET not in err


def test_a_misspelt_variable_is_refused_with_the_nearest_name(user_data_of: UserDataCommand) -> None:
    code, out, err = user_data_of({**GOOD, "BETA9_SSH_PROT": "22"})
    assert (code, out) == (78, b"")
    assert (
        "'BETA9_SSH_PROT' (from --set) is not a setting and would have no effect; did you mean BETA9_SSH_PORT?"
        in err
    )


def test_in_the_environment_a_slip_is_refused_and_what_others_use_is_left(
    user_data_of: UserDataCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BETA9_QQQ", "1")
    code, out, err = user_data_of(GOOD)
    assert code == 0
    assert worker_env(out) == GOOD
    assert "user-data: 'BETA9_QQQ' (in the environment)" in err
    monkeypatch.setenv("BETA9_POOLNAME", "gpu")
    code, out, err = user_data_of(GOOD)
    assert (code, out) == (78, b"")
    assert "did you mean BETA9_POOL_NAME?" in err


@pytest.mark.parametrize("word", ["BETA9_POOL_NAME", "=gpu", SECRET])
def test_a_set_without_name_and_value_is_refused_without_showing_it(
    user_data_of: UserDataCommand, word: str
) -> None:
    code, out, err = user_data_of(GOOD, "--set", word)
    assert (code, out) == (78, b"")
    assert "write, for example, --set BETA9_POOL_NAME=gpu" in err
    assert SECRET not in err


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("BETA9_SSH_PORT", "70000", "is not a port"),
        ("BETA9_POOL_NAME", "-x", "is not a valid name"),
        ("BETA9_SOURCE", "https://example.com/b.tar.gz", "is not LOCATION#sha256=CHECKSUM"),
        ("BETA9_SOURCE", f"ftp://example.com/b.tar.gz{SUM}", "is not LOCATION#sha256=CHECKSUM"),
        ("BETA9_SOURCE", f"b.tar.gz{SUM}", "is not LOCATION#sha256=CHECKSUM"),
        ("BETA9_AGENT_IMAGE", "registry.example.com/agent:latest", "a tag is not enough"),
        ("BETA9_ON_FAILURE", "explode", "is not one of poweroff, keep"),
        ("BETA9_EXPECTED_GPUS", "two", "is not a whole number"),
        ("BETA9_FILES_DIR", "files", "is not a path on the machine"),
        ("BETA9_TOKEN_FILE", "token", "BETA9_TOKEN"),
        ("BETA9_GATEWAY_HOST", "10.0.0.7", "it is the tunnel's local end"),
        ("BETA9_KEEPALIVE_INTERVAL", "1000", "do not fit the gateway's lease"),
    ],
)
def test_values_that_cannot_work_are_refused(
    user_data_of: UserDataCommand, variable: str, value: str, reason: str
) -> None:
    code, out, err = user_data_of({**GOOD, variable: value})
    assert (code, out) == (78, b"")
    assert variable in err
    assert reason in err


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BETA9_SOURCE", f"file:///opt/b.tar.gz{SUM}"),
        ("BETA9_SOURCE", f"/opt/b.tar.gz{SUM}"),
        ("BETA9_SOURCE", f"http://mirror.example.com/b.tar.gz?x=1{SUM}"),
        ("BETA9_AGENT_IMAGE", f"registry.example.com:5000/team/agent@sha256:{'0' * 64}"),
        ("BETA9_AGENT_IMAGE", f"https://example.com/agent.tar.gz{SUM}"),
    ],
)
def test_the_places_that_the_machine_understands_are_taken(
    user_data_of: UserDataCommand, variable: str, value: str
) -> None:
    code, out, _ = user_data_of({**GOOD, variable: value})
    assert code == 0
    assert worker_env(out)[variable] == value


def test_either_source_or_image_is_enough(user_data_of: UserDataCommand) -> None:
    code, _, _ = user_data_of({**without("BETA9_SOURCE"), "BETA9_AGENT_IMAGE": f"agent@sha256:{'0' * 64}"})
    assert code == 0
