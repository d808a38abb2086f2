"""`beta9-worker user-data` for each cloud: its formats, its size limit, and what a failed boot costs there."""

from __future__ import annotations

import base64

import pytest

from agent.core.provisioning import user_data
from agent.core.provisioning.user_data import CLOUDS
from tests.unit.provisioning.user_data_cases import GOOD, HOST_KEY_LINE, CommandResult, UserDataCommand


@pytest.mark.parametrize(("cloud", "form"), [(c.name, f) for c in CLOUDS.values() for f in user_data.FORMATS])
def test_a_cloud_is_given_only_what_it_takes(user_data_of: UserDataCommand, cloud: str, form: str) -> None:
    code, out, err = user_data_of(GOOD, "--cloud", cloud, "--format", form)
    if form in CLOUDS[cloud].formats:
        assert code == 0
        assert out
    else:
        assert (code, out) == (78, b"")
        assert f"--format {form}: {cloud} does not accept it; choose {CLOUDS[cloud].formats[0]}" in err


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_machine_whose_boot_fails_powers_off_where_that_ends_the_costs(
    user_data_of: UserDataCommand, cloud: str
) -> None:
    text = user_data_of(GOOD, "--cloud", cloud)[1].decode()
    assert ("BETA9_ON_FAILURE=poweroff" in text) == (cloud in {"aws", "crusoe"})
    kept = user_data_of({**GOOD, "BETA9_ON_FAILURE": "keep"}, "--cloud", cloud)[1].decode()
    assert "BETA9_ON_FAILURE=keep" in kept
    assert "BETA9_ON_FAILURE=poweroff" not in kept


def test_lambda_is_told_that_nothing_here_ends_its_costs(user_data_of: UserDataCommand) -> None:
    assert "cannot end its own billing" in user_data_of(GOOD, "--cloud", "lambda")[2]


def fill(user_data_of: UserDataCommand, cloud: str, over: int) -> CommandResult:
    """Run the command for user data that is exactly `over` bytes longer than the cloud takes."""
    limit = CLOUDS[cloud].limit_bytes
    assert limit is not None
    line = f"{HOST_KEY_LINE} "
    start = len(user_data_of({**GOOD, "BETA9_SSH_KNOWN_HOSTS": line}, "--cloud", cloud)[1])
    settings = {**GOOD, "BETA9_SSH_KNOWN_HOSTS": line + "x" * (limit - start + over)}
    return user_data_of(settings, "--cloud", cloud)


@pytest.mark.parametrize("cloud", [name for name, cloud in CLOUDS.items() if cloud.limit_bytes])
def test_the_limit_of_each_cloud_is_kept_to_the_byte(user_data_of: UserDataCommand, cloud: str) -> None:
    limit = {"aws": 16384, "crusoe": 65535, "lambda": 1048576}[cloud]
    code, out, _ = fill(user_data_of, cloud, 0)
    assert (code, len(out)) == (0, limit)
    code, out, err = fill(user_data_of, cloud, 1)
    assert (code, out) == (78, b"")
    assert f"the user data has {limit + 1} bytes, but {cloud} accepts at most {limit};" in err
    assert ("use --format gzip" in err) == (cloud == "aws")


def test_aws_counts_what_gzip_leaves_and_base64_does_not_add(user_data_of: UserDataCommand) -> None:
    settings = {**GOOD, "BETA9_SSH_KNOWN_HOSTS": f"{HOST_KEY_LINE} " + "x" * 2000}
    code, out, _ = user_data_of(settings, "--cloud", "aws", "--format", "base64")
    assert code == 0
    assert len(base64.b64decode(out)) < 16384 < len(out)
    settings["BETA9_SSH_KNOWN_HOSTS"] += "x" * 9000
    assert user_data_of(settings, "--cloud", "aws")[0] == 78
    code, out, _ = user_data_of(settings, "--cloud", "aws", "--format", "gzip")
    assert code == 0
    assert len(out) < 16384


def test_a_script_is_ascii_or_refused(user_data_of: UserDataCommand) -> None:
    settings = {**GOOD, "BETA9_SSH_KNOWN_HOSTS": f"{HOST_KEY_LINE} schlüssel"}
    assert user_data_of(settings, "--cloud", "lambda")[0] == 0
    code, out, err = user_data_of(settings, "--cloud", "crusoe")
    assert (code, out) == (78, b"")
    assert "a startup script must be ASCII, but BETA9_SSH_KNOWN_HOSTS is not" in err


def test_a_value_cannot_end_the_script_s_settings_early(user_data_of: UserDataCommand) -> None:
    settings = {**GOOD, "BETA9_SSH_KNOWN_HOSTS": f"{HOST_KEY_LINE}\n{user_data.HEREDOC_END}\nrm -rf /"}
    code, out, err = user_data_of(settings, "--format", "script")
    assert (code, out) == (78, b"")
    assert user_data.HEREDOC_END in err or "BETA9_SSH_KNOWN_HOSTS" in err
