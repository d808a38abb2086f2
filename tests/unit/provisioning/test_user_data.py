"""`beta9-worker user-data`: what it prints, what each cloud takes, and what it refuses."""

from __future__ import annotations

import base64
import gzip
import io
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from agent import cli
from agent.core.provisioning import cloud_config, env_file, user_data
from agent.core.provisioning.user_data import CLOUDS
from agent.settings.fields import known_variables

ROOT = Path(__file__).parents[3]
TEMPLATE = (ROOT / "cloud-init" / "user-data.yaml").read_text(encoding="utf-8")
HEAD = (ROOT / "cloud-init" / "script-head.sh").read_text(encoding="utf-8")
BOOT = (ROOT / "cloud-init" / "boot.sh").read_text(encoding="utf-8")

SUM = "#sha256=" + "0123456789abcdef" * 4
GOOD = {
    "BETA9_POOL_NAME": "gpu",
    "BETA9_SSH_HOST": "gateway.example.com",
    "BETA9_SSH_HOST_KEY_FINGERPRINT": f"SHA256:{'A' * 43}",
    "BETA9_SOURCE": f"https://example.com/beta9-worker.tar.gz{SUM}",
    "BETA9_TOKEN": "ssm:///beta9/token",
    "BETA9_SSH_KEY": "secretsmanager://beta9#ssh_key",
}
PLAIN_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n".format(
    base64.b64encode(b"openssh-key-v1\0\0\0\0\4none").decode()
)

Said = tuple[int, bytes, str]


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("BETA9_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def user_data_of(capsysbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Run the command with settings given by --set, and further words; return exit code, stdout, stderr."""

    def run(settings: Mapping[str, str], *words: str) -> Said:
        sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        code = cli.main(["user-data", *sets, *words])
        out, err = capsysbinary.readouterr()
        return code, out, err.decode()

    return run


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in GOOD.items() if name not in names}


def worker_env(config: bytes | str) -> dict[str, str | None]:
    """What the machine will read."""
    loaded = yaml.safe_load(config)
    [entry] = [each for each in loaded["write_files"] if each["path"] == "/etc/beta9-worker/worker.env"]
    assert entry["permissions"] == "0600"
    return dict(dotenv_values(stream=io.StringIO(entry["content"]), interpolate=False))


# --- What is printed ---------------------------------------------------------------------------------------


def test_the_template_with_its_settings_and_nothing_else_is_printed(user_data_of: Any) -> None:
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
def test_what_worker_env_cannot_carry_is_refused(user_data_of: Any, value: str) -> None:
    code, out, err = user_data_of({**GOOD, "BETA9_SSH_KNOWN_HOSTS": value})
    assert (code, out) == (78, b"")
    assert "BETA9_SSH_KNOWN_HOSTS: holds a " in err


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


def test_a_key_over_several_lines_arrives_as_it_was(user_data_of: Any) -> None:
    code, out, err = user_data_of({**GOOD, "BETA9_SSH_KEY": PLAIN_KEY}, "--allow-plain-secrets")
    assert code == 0
    assert worker_env(out)["BETA9_SSH_KEY"] == PLAIN_KEY
    assert "user-data: BETA9_SSH_KEY stands in it in plain text" in err


def test_the_same_settings_give_the_same_bytes(user_data_of: Any) -> None:
    backwards = dict(reversed(GOOD.items()))
    for form in user_data.FORMATS:
        assert user_data_of(GOOD, "--format", form) == user_data_of(backwards, "--format", form)


def test_gzip_and_base64_hold_the_same_text(user_data_of: Any) -> None:
    _, plain, _ = user_data_of(GOOD)
    assert gzip.decompress(user_data_of(GOOD, "--format", "gzip")[1]) == plain
    assert base64.b64decode(user_data_of(GOOD, "--format", "base64")[1]) == plain


def test_the_script_is_its_head_with_the_settings_and_then_boot_sh(user_data_of: Any) -> None:
    code, out, _ = user_data_of(GOOD, "--format", "script")
    assert code == 0
    text = out.decode("ascii")
    assert text.endswith(f"\n{BOOT}")
    assert text.removesuffix(BOOT) == HEAD.replace(
        "# end of settings", "\n".join([*env_file.env_lines(GOOD), "# end of settings"])
    )
    subprocess.run(["bash", "-n"], input=out, check=True, timeout=30)


# --- Where settings come from ------------------------------------------------------------------------------


def test_set_beats_flag_beats_environment_beats_file(
    user_data_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "some.env"
    names = ("POOL_NAME", "PROVIDER_NAME", "SSH_USER", "LOG_LEVEL")
    file.write_text("".join(f"BETA9_{name}=error\n" for name in names))
    for name in names[:3]:
        monkeypatch.setenv(f"BETA9_{name}", "of-environment")
    words = ["--pool-name", "of-flag", "--provider-name", "of-flag", "--env-file", str(file)]
    code, out, _ = user_data_of({**GOOD, "BETA9_POOL_NAME": "of-set"}, *words)
    assert code == 0
    told = worker_env(out)
    assert [told[f"BETA9_{name}"] for name in names] == ["of-set", "of-flag", "of-environment", "error"]


def test_a_file_given_later_does_not_stand_beside_the_value_that_wins(
    user_data_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BETA9_TOKEN_FILE", "/run/token")
    _, out, _ = user_data_of(GOOD)
    assert worker_env(out) == GOOD


def test_settings_of_this_machine_are_not_taken(
    user_data_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("BETA9_LOG_LEVEL=debug\n")
    monkeypatch.chdir(tmp_path)
    _, out, _ = user_data_of(GOOD)
    assert "BETA9_LOG_LEVEL" not in worker_env(out)


@pytest.mark.parametrize("variable", known_variables())
def test_every_variable_there_is_can_be_given(variable: str, user_data_of: Any) -> None:
    """That is: none is unknown. Whether the value suits it is another question."""
    _, _, err = user_data_of({**GOOD, variable: "x"})
    assert "is not a setting" not in err


def test_a_path_on_the_machine_is_not_looked_for_here(user_data_of: Any) -> None:
    settings = {**without("BETA9_TOKEN"), "BETA9_TOKEN_FILE": "/not/here/token"}
    code, out, err = user_data_of(settings)
    assert (code, err) == (0, "")
    assert worker_env(out) == settings


# --- Refusals ----------------------------------------------------------------------------------------------


def test_all_that_is_missing_is_named_at_once(user_data_of: Any) -> None:
    code, out, err = user_data_of({})
    assert (code, out) == (78, b"")
    for missing in ("POOL_NAME: not set", "SOURCE: not set", "SSH_HOST: not set", "SSH_KNOWN_HOSTS: not set"):
        assert f"beta9-worker: BETA9_{missing}" in err


def test_without_secrets_it_works_and_says_who_will_wait(user_data_of: Any) -> None:
    code, out, err = user_data_of(without("BETA9_TOKEN", "BETA9_SSH_KEY"))
    assert code == 0
    assert worker_env(out) == without("BETA9_TOKEN", "BETA9_SSH_KEY")
    assert "without ssh_key and token: the machine will wait" in err
    assert "push-secrets" in err


def test_in_a_tailnet_its_key_is_what_a_machine_waits_for(user_data_of: Any) -> None:
    settings = {
        "BETA9_CONNECTION": "tailscale",
        "BETA9_GATEWAY_HOST": "gateway.tail.example",
        "BETA9_POOL_NAME": "gpu",
    }
    code, _, err = user_data_of({**settings, "BETA9_SOURCE": GOOD["BETA9_SOURCE"]})
    assert code == 0
    assert "without tailscale_auth and token: the machine will wait" in err
    plain = {**settings, "BETA9_SOURCE": GOOD["BETA9_SOURCE"], "BETA9_TAILSCALE_AUTH": SECRET}
    code, out, err = user_data_of(plain)
    assert (code, out) == (78, b"")
    assert "BETA9_TAILSCALE_AUTH: a secret in plain text" in err


SECRET = "sEcReT-0123456789"


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
    user_data_of: Any, variable: str, value: str
) -> None:
    code, out, err = user_data_of({**GOOD, variable: value})
    assert (code, out) == (78, b"")
    assert f"beta9-worker: {variable}: " in err
    assert SECRET not in err
    assert "openssh-key" not in err
    if "FILES_DIR" not in variable:
        assert "a secret in plain text" in err
        assert "push-secrets" in err


def test_a_plain_token_is_written_out_for_who_insists_with_a_warning(user_data_of: Any) -> None:
    code, out, err = user_data_of({**GOOD, "BETA9_TOKEN": SECRET}, "--allow-plain-secrets")
    assert code == 0
    assert worker_env(out)["BETA9_TOKEN"] == SECRET
    assert "user-data: BETA9_TOKEN stands in it in plain text" in err
    assert SECRET not in err


def test_a_misspelt_variable_is_refused_with_the_nearest_name(user_data_of: Any) -> None:
    code, out, err = user_data_of({**GOOD, "BETA9_SSH_PROT": "22"})
    assert (code, out) == (78, b"")
    assert (
        "'BETA9_SSH_PROT' (by --set) is not a setting and nothing would read it; did you mean BETA9_SSH_PORT?"
        in err
    )


def test_in_the_environment_a_slip_is_refused_and_what_others_use_is_left(
    user_data_of: Any, monkeypatch: pytest.MonkeyPatch
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
def test_a_set_without_name_and_value_is_refused_without_showing_it(user_data_of: Any, word: str) -> None:
    code, out, err = user_data_of(GOOD, "--set", word)
    assert (code, out) == (78, b"")
    assert "write --set BETA9_POOL_NAME=gpu" in err
    assert SECRET not in err


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("BETA9_SSH_PORT", "70000", "is not a port"),
        ("BETA9_POOL_NAME", "-x", "is not a name"),
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
def test_values_that_cannot_work_are_refused(user_data_of: Any, variable: str, value: str, told: str) -> None:
    code, out, err = user_data_of({**GOOD, variable: value})
    assert (code, out) == (78, b"")
    assert variable in err
    assert told in err


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
    user_data_of: Any, variable: str, value: str
) -> None:
    code, out, _ = user_data_of({**GOOD, variable: value})
    assert code == 0
    assert worker_env(out)[variable] == value


def test_either_source_or_image_is_enough(user_data_of: Any) -> None:
    code, _, _ = user_data_of({**without("BETA9_SOURCE"), "BETA9_AGENT_IMAGE": f"agent@sha256:{'0' * 64}"})
    assert code == 0


# --- Clouds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cloud", "form"), [(c.name, f) for c in CLOUDS.values() for f in user_data.FORMATS])
def test_a_cloud_is_given_only_what_it_takes(user_data_of: Any, cloud: str, form: str) -> None:
    code, out, err = user_data_of(GOOD, "--cloud", cloud, "--format", form)
    if form in CLOUDS[cloud].formats:
        assert code == 0
        assert out
    else:
        assert (code, out) == (78, b"")
        assert f"--format {form}: {cloud} does not take that; choose {CLOUDS[cloud].formats[0]}" in err


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_machine_whose_boot_fails_powers_off_where_that_ends_the_costs(
    user_data_of: Any, cloud: str
) -> None:
    text = user_data_of(GOOD, "--cloud", cloud)[1].decode()
    assert ("BETA9_ON_FAILURE=poweroff" in text) == (cloud in {"aws", "crusoe"})
    kept = user_data_of({**GOOD, "BETA9_ON_FAILURE": "keep"}, "--cloud", cloud)[1].decode()
    assert "BETA9_ON_FAILURE=keep" in kept
    assert "BETA9_ON_FAILURE=poweroff" not in kept


def test_lambda_is_told_that_nothing_here_ends_its_costs(user_data_of: Any) -> None:
    assert "cannot end its own costs" in user_data_of(GOOD, "--cloud", "lambda")[2]


def filled_up(user_data_of: Any, cloud: str, over: int) -> Said:
    """Settings that make the text exactly as long as the cloud takes, and `over` bytes more."""
    limit = CLOUDS[cloud].limit_bytes
    assert limit is not None
    line = "h ssh-ed25519 AAAA "
    start = len(user_data_of({**GOOD, "BETA9_SSH_KNOWN_HOSTS": line}, "--cloud", cloud)[1])
    settings = {**GOOD, "BETA9_SSH_KNOWN_HOSTS": line + "x" * (limit - start + over)}
    said: Said = user_data_of(settings, "--cloud", cloud)
    return said


@pytest.mark.parametrize("cloud", [name for name, cloud in CLOUDS.items() if cloud.limit_bytes])
def test_the_limit_of_each_cloud_is_kept_to_the_byte(user_data_of: Any, cloud: str) -> None:
    limit = {"aws": 16384, "crusoe": 65535, "lambda": 1048576}[cloud]
    code, out, _ = filled_up(user_data_of, cloud, 0)
    assert (code, len(out)) == (0, limit)
    code, out, err = filled_up(user_data_of, cloud, 1)
    assert (code, out) == (78, b"")
    assert f"the user data has {limit + 1} bytes and {cloud} takes {limit};" in err
    assert ("take --format gzip" in err) == (cloud == "aws")


def test_aws_counts_what_gzip_leaves_and_base64_does_not_add(user_data_of: Any) -> None:
    settings = {**GOOD, "BETA9_SSH_KNOWN_HOSTS": "h ssh-ed25519 AAAA " + "x" * 9000}
    code, out, _ = user_data_of(settings, "--cloud", "aws", "--format", "base64")
    assert code == 0
    assert len(base64.b64decode(out)) < 16384 < len(out)
    settings["BETA9_SSH_KNOWN_HOSTS"] += "x" * 9000
    assert user_data_of(settings, "--cloud", "aws")[0] == 78
    code, out, _ = user_data_of(settings, "--cloud", "aws", "--format", "gzip")
    assert code == 0
    assert len(out) < 16384


def test_a_script_is_ascii_or_refused(user_data_of: Any) -> None:
    settings = {**GOOD, "BETA9_SSH_KNOWN_HOSTS": "h ssh-ed25519 AAAA schlüssel"}
    assert user_data_of(settings, "--cloud", "lambda")[0] == 0
    code, out, err = user_data_of(settings, "--cloud", "crusoe")
    assert (code, out) == (78, b"")
    assert "a start-up script must be ASCII and BETA9_SSH_KNOWN_HOSTS is not" in err


def test_a_value_cannot_end_the_script_s_settings_early(user_data_of: Any) -> None:
    settings = {**GOOD, "BETA9_SSH_KNOWN_HOSTS": f"h ssh-ed25519 AAAA\n{user_data.HEREDOC_END}\nrm -rf /"}
    code, out, err = user_data_of(settings, "--format", "script")
    assert (code, out) == (78, b"")
    assert user_data.HEREDOC_END in err or "BETA9_SSH_KNOWN_HOSTS" in err


# --- What was filled in by hand ----------------------------------------------------------------------------


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    def run(text: str, *words: str) -> tuple[int, str, str]:
        file = tmp_path / "user-data.yaml"
        file.write_text(text, encoding="utf-8")
        code = cli.main(["user-data", "--check", str(file), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_what_is_rendered_passes_the_check(check: Any) -> None:
    code, out, err = check(user_data.cloud_config(TEMPLATE, GOOD))
    assert (code, err) == (0, "")
    assert re.search(r"user-data.yaml: all well, \d+ bytes", out)


def test_the_template_that_nobody_filled_in_is_refused_with_all_that_is_missing(check: Any) -> None:
    code, out, err = check(TEMPLATE)
    assert (code, out) == (78, "")
    assert "BETA9_POOL_NAME" in err
    assert "BETA9_SOURCE" in err


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("runcmd:", "runcmds:", "'runcmds' is no key of cloud-config"),
        ("    permissions: '0600'", "    permission: '0600'", "'permission' is no key of write_files"),
        ("#cloud-config\n", "\n#cloud-config\n", "the first line is not #cloud-config"),
        ("      BETA9_POOL_NAME=gpu", "      BETA9_POOL=gpu", "did you mean BETA9_POOL_NAME?"),
        ("      # settings", "     # settings", "BETA9_POOL_NAME is indented more than the first line"),
        ("      BETA9_POOL_NAME", "    BETA9_POOL_NAME", "it is no YAML"),
        (
            "/etc/beta9-worker/worker.env",
            "/etc/worker.env",
            "nothing in it writes /etc/beta9-worker/worker.env",
        ),
        ("ssm:///beta9/token", SECRET, "a secret in plain text"),
    ],
)
def test_slips_of_the_hand_are_found(check: Any, old: str, new: str, told: str) -> None:
    text = user_data.cloud_config(TEMPLATE, GOOD)
    assert old in text
    code, out, err = check(text.replace(old, new, 1))
    assert (code, out) == (78, "")
    assert told in err
    assert SECRET not in err


def test_a_text_that_is_too_long_is_found(check: Any) -> None:
    code, _, err = check(user_data.cloud_config(TEMPLATE, GOOD) + "#" * 16384, "--cloud", "aws")
    assert code == 78
    assert "aws takes 16384" in err


def test_keys_of_one_s_own_are_let_through() -> None:
    text = TEMPLATE + "ssh_authorized_keys: [ssh-ed25519 AAAA]\n"
    assert cloud_config.problems(text, yaml.safe_load(text)) == []


def test_what_is_no_mapping_is_refused() -> None:
    assert len(cloud_config.problems("#cloud-config\n- a\n", ["a"])) == 1
