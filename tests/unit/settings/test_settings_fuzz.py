"""Any environment: settings are read or refused, nothing crashes, and no secret is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.text.describe import shape
from agent.errors import SettingsError
from agent.settings import describe, examine, load, without_ignored
from agent.settings.fields import FIELDS
from agent.settings.secret_refs import usable_secret
from tests.unit.settings_cases import MINIMAL

SECRETS = [field.variable for field in FIELDS if field.file_variant]
# What the environment can hold: no null characters; bytes that are not UTF-8 arrive as lone surrogates.
texts = st.text(st.characters(exclude_characters="\0"), max_size=60)
near_misses = st.sampled_from(
    [
        "",
        "-",
        "auto",
        "0",
        "1994",
        "1e9",
        "[::1]:9",
        "a:b",
        "ssm://",
        "/",
        "~",
        "~no-such-user/x",
        "\n",
        ",",
        "=",
    ]
)
values = texts | near_misses
environments = st.dictionaries(st.sampled_from([field.variable for field in FIELDS]), values, max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(environments)
def test_any_environment_is_read_or_refused(tmp_path: Path, environ: dict[str, str]) -> None:
    loaded, problems = examine({}, {**MINIMAL, **environ}, directory=tmp_path, etc=tmp_path)
    assert all(problem.startswith("BETA9_") and "\n" not in problem for problem in problems)
    json.dumps(describe(loaded))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(SECRETS), st.text("xyzXYZ_0123", min_size=12, max_size=90), st.sampled_from(["", "_FILE"])
)
def test_no_secret_is_shown_wherever_it_was_put(
    tmp_path: Path, variable: str, secret: str, suffix: str
) -> None:
    environ = {name: text for name, text in MINIMAL.items() if name != variable}
    loaded, problems = examine({}, {**environ, variable + suffix: secret}, directory=tmp_path, etc=tmp_path)
    assert secret not in "\n".join([*problems, *loaded.warnings, repr(loaded), json.dumps(describe(loaded))])


@given(texts)
def test_a_token_that_is_taken_survives_a_header(text: str) -> None:
    try:
        token = usable_secret("BETA9_TOKEN", text)
    except ValueError:
        return
    header = f"Bearer {token}".encode("latin-1")
    assert b"\r" not in header
    assert b"\n" not in header
    assert header.decode("latin-1").strip() == f"Bearer {token}"


@given(texts)
def test_a_shape_tells_no_characters(text: str) -> None:
    assert shape(text) == shape("".join(reversed(text))), "only length and kinds count"


@given(st.lists(st.sampled_from(["--flux-x", "--flux-y=1", "v", "--once", "--token", "t"])))
def test_flags_of_old_commands_are_left_out_and_all_else_kept(arguments: list[str]) -> None:
    kept = without_ignored(arguments)
    assert not [argument for argument in kept if argument.startswith("--flux-")]
    assert [a for a in kept if a.startswith("--")] == [
        a for a in arguments if a.startswith("--") and not a.startswith("--flux-")
    ]


def test_a_null_character_in_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="BETA9_TOKEN_FILE"):
        load({}, {"BETA9_POOL_NAME": "gpu", "BETA9_TOKEN_FILE": "/a\0b"}, directory=tmp_path, etc=tmp_path)
