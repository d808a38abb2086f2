"""The command line as users see it: real processes, their output and their exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.gateway.machines import Pool
from agent.demo.gateway.options import GatewaySettings
from agent.demo.sshd.program import free_port
from agent.demo.sshd.throwaway import HOST
from tests import ROOT
from tests.integration.lab import Lab
from tests.integration.polling import DEADLINE_S, wait_for

TOKEN = "swwMV_WA4C_FxN-_UY5UiRgdg2dTM1GUDLVUzO9c6fzyOs0BUJuXKLfxb-QcZkwAnlOGscu0U3WYmF1eQpcSBg=="
GUIDE_PORT = 1994

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """A function that runs `python -m agent …` in an empty directory, with only the given settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BETA9_")}
    home = tmp_path / "home"
    home.mkdir()

    def run(*words: str, settings: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        environment = {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "LC_ALL": "C",
            "BETA9_STATE_DIR": str(home / "state"),
            "BETA9_STATUS_ADDR": f"{HOST}:{free_port(HOST)}",
            "BETA9_INTERRUPTION": "none",
            "BETA9_LOG_FORMAT": "json",
            **(settings or {}),
        }
        argv = [sys.executable, "-m", "agent", *words]
        return subprocess.run(
            argv, cwd=home, env=environment, capture_output=True, text=True, timeout=100, check=False
        )

    return run


def files_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


# --- Bad input, found before anything starts -------------------------------------------------------------

GOOD = ("--token", TOKEN, "--pool-name", "gpu")


@pytest.mark.parametrize(
    ("words", "settings", "expected"),
    [
        (("--pool-name", "gpu"), {}, ["BETA9_TOKEN: not set", "beta9 machine create"]),
        (("--token", TOKEN), {}, ["BETA9_POOL_NAME: not set"]),
        ((*GOOD, "--gateway-port", "99999"), {}, ["--gateway-port: '99999' is not a port", "1 to 65535"]),
        (
            (*GOOD,),
            {"BETA9_GATEWAY_PORT": "http"},
            ["BETA9_GATEWAY_PORT: 'http' is not a port", "1 to 65535"],
        ),
        ((*GOOD, "--machine-id", "xyz"), {}, ["--machine-id: 'xyz'", "8 hexadecimal characters"]),
        ((*GOOD, "--keepalive-interval", "299"), {}, ["299 s between keepalives", "use at most 260 s"]),
        ((*GOOD, "--keepalive-interval", "soon"), {}, ["--keepalive-interval: 'soon'"]),
        (
            (*GOOD,),
            {
                "BETA9_SSH_HOST": "127.0.0.1",
                "BETA9_SSH_KEY_FILE": "/nonexistent/ssh_key",
                "BETA9_SSH_HOST_KEY_FINGERPRINT": "SHA256:" + "A" * 43,
            },
            ["BETA9_SSH_KEY_FILE: /nonexistent/ssh_key cannot be read", "No such file", "check the path"],
        ),
        (
            (*GOOD,),
            {"BETA9_SSH_HOST": "127.0.0.1"},
            ["BETA9_SSH_KEY_FILE: not set", "BETA9_SSH_KNOWN_HOSTS: not set"],
        ),
    ],
)
def test_bad_input_is_one_message_that_names_the_setting_and_the_fix(
    cli: Cli, tmp_path: Path, words: tuple[str, ...], settings: dict[str, str], expected: list[str]
) -> None:
    ended = cli("run", "--env-file", os.devnull, *words, settings=settings)
    assert ended.returncode == 78
    for text in expected:
        assert text in ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert TOKEN not in ended.stderr
    assert all(line.startswith("beta9-worker: ") for line in ended.stderr.splitlines())
    assert files_in(tmp_path / "home") == [], "files were written in spite of bad settings"


def test_a_token_in_the_wrong_place_is_described_and_not_shown(cli: Cli) -> None:
    ended = cli("run", "--env-file", os.devnull, *GOOD, "--machine-id", TOKEN)
    assert ended.returncode == 78
    assert "text of 88 characters" in ended.stderr
    assert TOKEN[:20] not in ended.stderr


def test_a_mistyped_flag_is_named_and_what_follows_it_is_not(cli: Cli) -> None:
    ended = cli("run", "--tokn", TOKEN, "--pool-name", "gpu")
    assert ended.returncode == 78
    assert ended.stderr == "beta9-worker: unrecognized arguments: --tokn; did you mean --token?\n"


@pytest.mark.parametrize(
    ("word", "hint"), [("statsu", "did you mean status?"), ("frobnicate", "choose from run, ")]
)
def test_an_unknown_command_is_answered_with_the_known_ones(cli: Cli, word: str, hint: str) -> None:
    ended = cli(word)
    assert ended.returncode == 78
    assert ended.stderr.startswith(f"beta9-worker: unknown command '{word}'; ")
    assert hint in ended.stderr


# --- Commands from the guide --------------------------------------------------------------------------


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
        return False


def test_the_guides_command_registers_keeps_alive_once_and_exits_0(cli: Cli) -> None:
    if is_taken(GUIDE_PORT):
        pytest.skip(f"port {GUIDE_PORT} is in use")
    pool = Pool(name="gpu", gpu_type="", worker_gpu_count=0)
    with EmbeddedGateway(GatewaySettings(pools=(pool,), port=GUIDE_PORT), log=lambda *_: None) as gateway:
        machine = gateway.create_machine("gpu", "1165a9b6")
        ended = cli(
            "--token", machine.registration_token, "--machine-id", "1165a9b6", "--pool-name", "gpu",
            "--gateway-host", "localhost", "--gateway-port", "1994", "--once",
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        entry = gateway.machine("1165a9b6")
        assert entry is not None
        assert entry.status == "ready"
        sent = [(each.route, each.status) for each in gateway.requests(machine_id="1165a9b6")]
        assert sent == [("register", 200), ("keepalive", 200)]
    assert machine.registration_token not in ended.stdout + ended.stderr


@pytest.mark.parametrize("url", ["", "http://headscale:8080"])
def test_what_beta9_machine_create_prints_is_accepted_as_it_is(cli: Cli, url: str) -> None:
    ended = cli(
        "--token", TOKEN, "--machine-id", "35dbe736", "--tailscale-url", url, "--tailscale-auth", url and "a-key",
        "--pool-name", "gpu", "--provider-name", "generic", "--flux-chart", "x", "--dry-run",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ("no effect: the connection is direct" in ended.stderr) is bool(url)


def test_a_dry_run_shows_every_setting_and_its_source_and_no_secret(cli: Cli, tmp_path: Path) -> None:
    ended = cli("run", *GOOD, "--dry-run", settings={"BETA9_K3S": "none"})
    assert ended.returncode == 0
    shown = json.loads(ended.stdout)
    assert shown["BETA9_TOKEN"] == {"value": "text of 88 characters", "from": "--token"}
    assert shown["BETA9_K3S"] == {"value": "none", "from": "BETA9_K3S"}
    assert shown["BETA9_GATEWAY_PORT"] == {"value": 1994, "from": "default"}
    assert TOKEN not in ended.stdout + ended.stderr
    assert files_in(tmp_path / "home") == []


# --- Inspecting a running agent ---------------------------------------------------------------------------


def test_health_and_status_tell_how_a_running_agent_is(lab: Lab, cli: Cli) -> None:
    agent = lab.ready_agent()
    address = agent.environment["BETA9_STATUS_ADDR"]
    assert cli("health", "--address", address).returncode == 0
    assert cli("health", "--ready", settings={"BETA9_STATUS_ADDR": address}).returncode == 0
    printed = cli("status", "--address", address).stdout
    assert agent.machine_id in printed
    assert "READY" in printed
    facts = json.loads(cli("status", "--json", "--address", address).stdout)
    assert facts["state"] == "READY"
    assert facts["tunnel"]["reverse"]["address"] == facts["registration"]["hostname"]
    assert facts["tunnel"]["forward"]["up"]


@pytest.mark.parametrize("command", ["health", "status"])
def test_where_no_agent_runs_the_answer_says_where_was_asked(cli: Cli, command: str) -> None:
    address = f"{HOST}:{free_port(HOST)}"
    ended = cli(command, "--address", address)
    assert ended.returncode == 1
    assert address in ended.stderr
    assert "Traceback" not in ended.stderr


# --- The demo ---------------------------------------------------------------------------------------------


def test_the_demo_shows_a_machine_becoming_ready_and_ends_by_itself(cli: Cli) -> None:
    ended = cli("demo", "--once")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    created = re.search(r"Created machine with ID: '([0-9a-f]{8})'", ended.stdout)
    assert created
    listed = ended.stdout.partition("$ beta9 machine list")[2]
    assert created[1] in listed
    assert "ready" in listed
    for status in ("pending", "registered", "ready"):
        assert f"{created[1]} is {status}" in ended.stdout


def test_ctrl_c_ends_the_demo_in_order(tmp_path: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BETA9_")}
    log = tmp_path / "log"
    with log.open("w") as out:
        demo = subprocess.Popen(
            [sys.executable, "-u", "-m", "agent", "demo"],
            env={**inherited, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(
            "the machine list",
            lambda: "The demo runs until Ctrl-C" in log.read_text() or demo.poll() is not None,
        )
        demo.send_signal(signal.SIGINT)
        assert demo.wait(DEADLINE_S) == 0, log.read_text()
    finally:
        demo.kill()
        demo.wait()
    assert "the agent drains the machine" in log.read_text()
    assert "Traceback" not in log.read_text()
