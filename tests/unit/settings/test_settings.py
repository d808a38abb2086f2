"""Settings: which source wins, and how they are shown."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields as dataclass_fields
from pathlib import Path

import pytest

from agent.adapters.secrets.resolver import Secrets
from agent.core.policy import Policy
from agent.settings import Connection, HostPort, K3sMode, Settings, describe, load
from agent.settings.fields import FIELDS
from agent.settings.page import page
from tests import ROOT
from tests.unit.settings_cases import MINIMAL, TOKEN, parsed, problems, read, ssh, with_


@pytest.fixture(autouse=True)
def _directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults_are_those_of_the_interface() -> None:
    settings = read(MINIMAL)
    assert (settings.gateway_host, settings.gateway_port) == ("localhost", 1994)
    assert settings.connection is Connection.DIRECT
    assert (settings.ssh_port, settings.ssh_user) == (22, "beta9-tunnel")
    assert settings.ssh_target == HostPort("localhost", 31994)
    assert settings.provider_name == "generic"
    assert settings.k3s is K3sMode.AUTO
    assert (settings.reserve_cpu_millicores, settings.reserve_memory_mib) == (500, 1024)
    assert settings.policy == Policy()
    assert settings.state_dir == Path("/var/lib/beta9-worker")
    assert settings.status_addr == HostPort("127.0.0.1", 9464)
    assert settings.log_format is None


def test_a_flag_beats_the_environment_beats_dotenv_beats_worker_env(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/worker.env").write_text(
        "BETA9_POOL_NAME=d\nBETA9_SSH_USER=d\nBETA9_SSH_PORT=4\nBETA9_HOSTNAME=d"
    )
    (tmp_path / ".env").write_text("BETA9_POOL_NAME=c\nBETA9_SSH_USER=c\nBETA9_SSH_PORT=3\n")
    environ = {"BETA9_TOKEN": TOKEN, "BETA9_POOL_NAME": "b", "BETA9_SSH_USER": "b"}
    settings = read(environ, pool_name="a")
    assert (settings.pool_name, settings.ssh_user, settings.ssh_port, settings.hostname) == ("a", "b", 3, "d")
    sources = {name: row["from"] for name, row in describe(settings).items()}
    assert sources["BETA9_POOL_NAME"] == "--pool-name"
    assert sources["BETA9_SSH_USER"] == "BETA9_SSH_USER"
    assert sources["BETA9_SSH_PORT"] == f"BETA9_SSH_PORT (in {tmp_path}/.env)"
    assert sources["BETA9_HOSTNAME"] == "BETA9_HOSTNAME (in etc/worker.env)"
    assert sources["BETA9_K3S"] == "default"


def test_env_file_is_read_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BETA9_SSH_USER=other\n")
    (tmp_path / "mine").write_text("BETA9_SSH_PORT=3\n")
    settings = read(MINIMAL, env_file="mine")
    assert (settings.ssh_user, settings.ssh_port) == ("beta9-tunnel", 3)


def test_a_dotenv_value_is_taken_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BETA9_TOKEN='a$HOME${X}`id`\"b'\nexport BETA9_POOL_NAME=gpu # mine\n")
    settings = read({})
    assert settings.token.value == 'a$HOME${X}`id`"b'
    assert settings.pool_name == "gpu"


def test_what_is_wrong_with_a_dotenv_file_is_said_by_line_without_its_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"BETA9_POOL_NAME=gpu\nBETA9_TOKEN='{TOKEN}\n")
    found = problems({})
    assert f"{tmp_path}/.env: line 2 is not NAME=value (or its quotes are not closed)" in found
    assert TOKEN not in "".join(found)


def test_an_env_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"BETA9_POOL_NAME=\xe9\n")
    assert "cannot be read (No such file or directory)" in problems(MINIMAL, env_file="nowhere")[0]
    assert "not UTF-8" in problems(MINIMAL, env_file="latin")[0]


def test_the_guides_command_works_as_it_is() -> None:
    flags = parsed(*f"--token {TOKEN} --machine-id 1165a9b6 --pool-name gpu --gateway-host localhost".split())
    settings = load(flags, {}, etc=Path("etc"))
    assert (settings.token.value, settings.machine_id, settings.pool_name) == (TOKEN, "1165a9b6", "gpu")


def test_what_machine_create_prints_is_accepted() -> None:
    printed = ["--token", TOKEN, "--machine-id", "35dbe736", "--tailscale-url", "", "--tailscale-auth", ""]
    printed += [
        "--pool-name",
        "gpu",
        "--provider-name",
        "generic",
        "--flux-secret",
        "x",
        "--flux-url=y",
        "--once",
    ]
    settings = load(parsed(*printed), {}, etc=Path("etc"))
    assert settings.once
    assert not [warning for warning in settings.warnings if "tailscale" in warning]


def test_debug_is_a_log_level() -> None:
    assert read(with_(BETA9_LOG_LEVEL="error"), debug=True).log_level == "debug"


def test_an_empty_variable_counts_as_not_given() -> None:
    assert read(with_(BETA9_MACHINE_ID="", BETA9_SSH_HOST="", BETA9_GATEWAY_PORT="")).gateway_port == 1994
    assert problems({"BETA9_TOKEN": "", "BETA9_POOL_NAME": "gpu"})[0].startswith("BETA9_TOKEN: empty; give")


def test_the_secrets_directory_is_used_when_nothing_else_names_the_secret(tmp_path: Path) -> None:
    (tmp_path / "etc/secrets").mkdir(parents=True)
    (tmp_path / "etc/secrets/token").write_text(f"{TOKEN}\n")
    (tmp_path / "etc/secrets/token").chmod(0o600)
    settings = read({"BETA9_POOL_NAME": "gpu"})
    assert settings.token.file == tmp_path / "etc/secrets/token"
    assert read(MINIMAL).token.value == TOKEN
    assert read({"BETA9_POOL_NAME": "gpu", "BETA9_TOKEN": "ssm:///t"}).token.reference == "ssm:///t"


# --- How they are shown -------------------------------------------------------------------------------------


def test_a_description_is_json_and_holds_every_setting_and_no_secret(tmp_path: Path) -> None:
    settings = read(ssh(tmp_path, BETA9_K3S_TOKEN="ssm:///k3s", BETA9_SSH_FORWARDS="1:a:1"))
    text = json.dumps(describe(settings))
    assert TOKEN not in text
    assert set(describe(settings)) == {field.variable for field in FIELDS}
    assert describe(settings)["BETA9_TOKEN"] == {"value": "text of 88 characters", "from": "BETA9_TOKEN"}
    assert describe(settings)["BETA9_K3S_TOKEN"]["value"] == "ssm:///k3s"
    assert describe(settings)["BETA9_SSH_FORWARDS"]["value"] == ["127.0.0.1:1:a:1"]


def test_no_repr_holds_a_secret() -> None:
    settings = read(MINIMAL)
    assert TOKEN not in f"{settings!r}{settings}{settings.token!r}{settings.token}"


def test_every_field_of_the_table_is_a_setting() -> None:
    attributes = {field.name for field in dataclass_fields(Settings)}
    assert {field.name for field in FIELDS} - {"keepalive_interval_s", "tuning"} <= attributes


def test_the_documentation_is_current() -> None:
    written = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m agent.settings.page > docs/settings.md"


def test_importing_settings_loads_nothing_heavy() -> None:
    heavy = "requests, boto3, botocore, docker, rich, prometheus_client, dotenv, psutil, difflib, socket"
    program = f"import sys, agent.settings; print([m for m in '{heavy}'.split(', ') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


FINGERPRINT, OTHER = "SHA256:" + "a/+" * 14 + "b", "SHA256:" + "c" * 43


@pytest.mark.parametrize(
    "text",
    [
        f" {FINGERPRINT} , {OTHER} ",
        f"{FINGERPRINT}= {OTHER}",
        f"{FINGERPRINT}\r\n{OTHER}\n",
        f'"{FINGERPRINT},{OTHER}"',
        f"'{FINGERPRINT}' '{OTHER}'",
        f"\ufeff{FINGERPRINT}\u200b;\u00a0{OTHER}",
        f"sha256:{FINGERPRINT[7:]},{OTHER},{FINGERPRINT}",
        f"256 {FINGERPRINT} root@gw (ED25519)\n3072 {OTHER} no comment (RSA)",
        f"256 {FINGERPRINT} root@gw (ED25519) 3072 {OTHER} no comment (RSA)",
    ],
)
def test_fingerprints_are_read_in_whatever_form_they_were_pasted(tmp_path: Path, text: str) -> None:
    """The kind of field case 1.1."""
    environ = ssh(tmp_path, BETA9_SSH_KNOWN_HOSTS="", BETA9_SSH_HOST_KEY_FINGERPRINT=text)
    assert read(environ).ssh_host_key_fingerprint == f"{FINGERPRINT},{OTHER}"


@pytest.mark.parametrize("text", ["{}", " {}\r\n", "\ufeff{}", "\u00a0{}\u200b", "{}\n"])
def test_tokens_are_read_alike_from_a_value_and_from_a_file(tmp_path: Path, text: str) -> None:
    """Field case 1.3 and more of its kind."""
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(text.format(TOKEN), encoding="utf-8")
    by_value = read(with_(BETA9_TOKEN=text.format(TOKEN))).token
    by_file = read({"BETA9_TOKEN_FILE": str(file), "BETA9_POOL_NAME": "gpu"}).token
    assert [Secrets().resolve(ref) for ref in (by_value, by_file)] == [TOKEN, TOKEN]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", []),
        ("bastion", ["bastion:22"]),
        ("me@bastion:2222 , [2001:db8::7]:22", ["me@bastion:2222", "[2001:db8::7]:22"]),
        ("me@2001:db8::7", ["me@[2001:db8::7]:22"]),
    ],
)
def test_jump_hosts_are_written_as_for_ssh(tmp_path: Path, text: str, shown: list[str]) -> None:
    """Field case 14.2."""
    assert describe(read(ssh(tmp_path, BETA9_SSH_JUMP=text)))["BETA9_SSH_JUMP"]["value"] == shown


@pytest.mark.parametrize(
    "text", ["-oProxyCommand=x", "a b@host", "host:0", "host:", "ssh://host", "@host", "host@"]
)
def test_a_jump_host_that_ssh_could_misread_is_refused(tmp_path: Path, text: str) -> None:
    found = problems(ssh(tmp_path, BETA9_SSH_JUMP=text))
    assert len(found) == 1
    assert "write [user@]host[:port]" in found[0]
