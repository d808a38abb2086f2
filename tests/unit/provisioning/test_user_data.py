"""`beta9-worker user-data`: what it prints, and which source of a setting wins."""

from __future__ import annotations

import base64
import gzip
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.core.provisioning import cloud_config, env_file, user_data
from agent.settings.fields import known_variables
from tests.unit.provisioning.user_data_cases import (
    CLOUD_INIT,
    GOOD,
    PLAIN_KEY,
    TEMPLATE,
    UserDataCommand,
    without,
    worker_env,
)

HEAD = (CLOUD_INIT / "script-head.sh").read_text(encoding="utf-8")
BOOT = (CLOUD_INIT / "boot.sh").read_text(encoding="utf-8")


def test_the_template_with_its_settings_and_nothing_else_is_printed(user_data_of: UserDataCommand) -> None:
    code, out, err = user_data_of(GOOD)
    assert (code, err) == (0, "")
    assert worker_env(out) == GOOD
    before, after = TEMPLATE.split("      # settings\n")[0], TEMPLATE.split("      # end of settings\n")[1]
    assert out.decode().startswith(before)
    assert out.decode().endswith(after)


def test_lines_are_sorted_and_quoted_only_where_they_must_be() -> None:
    lines = env_file.env_lines(
        {"B": "a b", "A": "x/y:z@1,+=#%-_.", "C": "", "D": "one\n\ntwo\n", "E": "$HOME"}
    )
    assert lines == ["A=x/y:z@1,+=#%-_.", "B='a b'", "D='one", "", "two", "'", "E='$HOME'"]


@pytest.mark.parametrize("value", ["it's", "C:\\x", "a\tb", "a\rb", "\x1b[0m", "\u2028"])
def test_what_worker_env_cannot_carry_is_refused(user_data_of: UserDataCommand, value: str) -> None:
    code, out, err = user_data_of({**GOOD, "BETA9_SSH_KNOWN_HOSTS": value})
    assert (code, out) == (78, b"")
    assert "BETA9_SSH_KNOWN_HOSTS: contains a " in err


TEXTS = st.text(
    st.characters(exclude_characters="'\\", exclude_categories=["C", "Z"]) | st.sampled_from(" \n")
)


@given(st.dictionaries(st.sampled_from(known_variables()), TEXTS))
def test_what_goes_in_comes_out_through_yaml_and_dotenv(settings: dict[str, str]) -> None:
    lines = "\n".join(env_file.env_lines(settings))
    given_to_yaml = user_data.cloud_config(TEMPLATE, settings)
    content = cloud_config.written(yaml.safe_load(given_to_yaml), user_data.WORKER_ENV)
    assert content == "\n".join(["# settings", *([lines] if lines else []), "# end of settings", ""])
    assert worker_env(given_to_yaml) == {name: value for name, value in settings.items() if value}


def test_a_key_over_several_lines_arrives_as_it_was(user_data_of: UserDataCommand) -> None:
    code, out, err = user_data_of({**GOOD, "BETA9_SSH_KEY": PLAIN_KEY}, "--allow-plain-secrets")
    assert code == 0
    assert worker_env(out)["BETA9_SSH_KEY"] == PLAIN_KEY
    assert "user-data: BETA9_SSH_KEY is included in plain text" in err


def test_the_same_settings_give_the_same_bytes(user_data_of: UserDataCommand) -> None:
    backwards = dict(reversed(GOOD.items()))
    for form in user_data.FORMATS:
        assert user_data_of(GOOD, "--format", form) == user_data_of(backwards, "--format", form)


def test_gzip_and_base64_hold_the_same_text(user_data_of: UserDataCommand) -> None:
    _, plain, _ = user_data_of(GOOD)
    assert gzip.decompress(user_data_of(GOOD, "--format", "gzip")[1]) == plain
    assert base64.b64decode(user_data_of(GOOD, "--format", "base64")[1]) == plain


def test_the_script_is_its_head_with_the_settings_and_then_boot_sh(user_data_of: UserDataCommand) -> None:
    code, out, _ = user_data_of(GOOD, "--format", "script")
    assert code == 0
    text = out.decode("ascii")
    assert text.endswith(f"\n{BOOT}")
    assert text.removesuffix(BOOT) == HEAD.replace(
        "# end of settings", "\n".join([*env_file.env_lines(GOOD), "# end of settings"])
    )
    subprocess.run(["bash", "-n"], input=out, check=True, timeout=30)


def test_set_beats_flag_beats_environment_beats_file(
    user_data_of: UserDataCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "some.env"
    names = ("POOL_NAME", "PROVIDER_NAME", "SSH_USER", "LOG_LEVEL")
    file.write_text("".join(f"BETA9_{name}=error\n" for name in names))
    for name in names[:3]:
        monkeypatch.setenv(f"BETA9_{name}", "of-environment")
    flags = ["--pool-name", "of-flag", "--provider-name", "of-flag", "--env-file", str(file)]
    code, out, _ = user_data_of({**GOOD, "BETA9_POOL_NAME": "of-set"}, *flags)
    assert code == 0
    written = worker_env(out)
    assert [written[f"BETA9_{name}"] for name in names] == ["of-set", "of-flag", "of-environment", "error"]


def test_a_file_given_later_does_not_stand_beside_the_value_that_wins(
    user_data_of: UserDataCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BETA9_TOKEN_FILE", "/run/token")
    _, out, _ = user_data_of(GOOD)
    assert worker_env(out) == GOOD


def test_settings_of_this_machine_are_not_taken(
    user_data_of: UserDataCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("BETA9_LOG_LEVEL=debug\n")
    monkeypatch.chdir(tmp_path)
    _, out, _ = user_data_of(GOOD)
    assert "BETA9_LOG_LEVEL" not in worker_env(out)


@pytest.mark.parametrize("variable", known_variables())
def test_every_variable_there_is_can_be_given(variable: str, user_data_of: UserDataCommand) -> None:
    """None is reported as unknown; whether the value suits it does not matter here."""
    _, _, err = user_data_of({**GOOD, variable: "x"})
    assert "is not a setting" not in err


def test_a_path_on_the_machine_is_not_looked_for_here(user_data_of: UserDataCommand) -> None:
    settings = {**without("BETA9_TOKEN"), "BETA9_TOKEN_FILE": "/not/here/token"}
    code, out, err = user_data_of(settings)
    assert (code, err) == (0, "")
    assert worker_env(out) == settings
