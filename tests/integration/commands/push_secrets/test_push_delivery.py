"""Pushed secrets arrive complete, readable by their owner only, and leak nowhere."""

from __future__ import annotations

import base64
import contextlib
import os
import shlex
import subprocess
import threading
from pathlib import Path

import psutil

from agent.core.provisioning import push_protocol
from tests.integration.commands.push_secrets.pushing import TOKEN, both, command, mode, push
from tests.integration.ssh_client import wait_until
from tests.sshd import Sshd


def test_both_arrive_whole_and_for_their_owner_alone(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    remote = tmp_path / "etc dir" / "secrets"
    result = push(command(machine, remote, *both(files)))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"token: written to {machine.host}:{remote}/token",
        f"ssh_key: written to {machine.host}:{remote}/ssh_key",
    ]
    assert (remote / "token").read_text() == TOKEN
    assert (remote / "ssh_key").read_text() == files["ssh_key"].read_text()
    assert [mode(path) for path in (remote, remote / "token", remote / "ssh_key")] == [0o700, 0o600, 0o600]
    assert sorted(path.name for path in remote.iterdir()) == ["ssh_key", "token"]


def test_a_second_time_nothing_changes_and_that_is_said(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    remote = tmp_path / "secrets"
    push(command(machine, remote, *both(files)))
    before = (remote / "token").stat().st_ino
    result = push(command(machine, remote, *both(files)))
    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == f"token: {machine.host}:{remote}/token is already up to date"
    assert (remote / "token").stat().st_ino == before


def test_a_new_token_takes_the_old_one_s_place_and_the_key_stays(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    remote = tmp_path / "secrets"
    push(command(machine, remote, *both(files)))
    result = push(command(machine, remote), BETA9_TOKEN="another")
    assert result.stdout.splitlines() == [f"token: written to {machine.host}:{remote}/token"]
    assert (remote / "token").read_text() == "another"
    assert (remote / "ssh_key").read_text() == files["ssh_key"].read_text()


def test_a_tailnet_s_key_goes_the_same_way(machine: Sshd, tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("tskey-auth-x\n")
    result = push(command(machine, tmp_path / "s", "--tailscale-auth-file", str(tmp_path / "auth")))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "s" / "tailscale_auth").read_text() == "tskey-auth-x"


def test_a_key_without_its_last_line_break_is_given_one(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    remote, bare = tmp_path / "secrets", tmp_path / "bare"
    bare.write_text(files["ssh_key"].read_text().strip())
    assert push(command(machine, remote), BETA9_SSH_KEY_FILE=str(bare)).returncode == 0
    assert (remote / "ssh_key").read_text() == files["ssh_key"].read_text()


def test_no_command_line_here_or_there_holds_a_secret(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    """Watch the command lines of all processes while it runs."""
    seen: set[str] = set()
    finished = threading.Event()

    def watch() -> None:
        while not finished.is_set():
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):  # the process has exited
                    seen.add(" ".join(process.cmdline()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert push(command(machine, tmp_path / "secrets", *both(files))).returncode == 0
    finally:
        finished.set()
        watcher.join()
    assert any("push-secrets" in line for line in seen)
    assert any("put token" in line for line in seen), "the remote command was not caught"
    key = files["ssh_key"].read_text()
    for secret in (TOKEN, base64.b64encode(TOKEN.encode()).decode()[:40], key.splitlines()[1]):
        assert not [line for line in seen if secret in line]


def run_remote_command(script: str, path: Path, stdin: str, uid: str) -> subprocess.CompletedProcess[str]:
    """Run the remote command as a login shell would, with stubs for `id` and `sudo` on the PATH."""
    path.mkdir(exist_ok=True)
    for name, text in {
        "id": f"echo {uid}",
        "sudo": f'echo "sudo $1 $2" >>{path}/asked; shift 2; exec "$@"',
    }.items():
        (path / name).write_text(f"#!/bin/sh\n{text}\n")
        (path / name).chmod(0o755)
    env = {"PATH": f"{path}:{os.environ['PATH']}"}
    return subprocess.run(
        ["sh", "-c", script], input=stdin, capture_output=True, text=True, check=False, timeout=30, env=env
    )


def test_root_writes_itself_and_others_by_sudo_that_never_asks(tmp_path: Path) -> None:
    script = push_protocol.remote_command(["token"], str(tmp_path / "s"))
    line = push_protocol.payload({"token": TOKEN})
    assert run_remote_command(script, tmp_path / "bin", line, "0").stdout == "beta9 new token\n"
    assert not (tmp_path / "bin" / "asked").exists()
    assert run_remote_command(script, tmp_path / "bin", line, "1000").stdout == "beta9 same token\n"
    assert (tmp_path / "bin" / "asked").read_text() == "sudo -n --\n"


def test_what_is_cut_off_on_the_way_replaces_nothing(tmp_path: Path) -> None:
    script = push_protocol.remote_command(["token"], str(tmp_path / "s"))
    run_remote_command(script, tmp_path / "bin", push_protocol.payload({"token": "old"}), "0")
    for cut in ("", "dG9r", push_protocol.payload({"token": "new"})[:-2]):
        result = run_remote_command(script, tmp_path / "bin", cut, "0")
        assert result.returncode == 65
        assert "truncated in transit" in result.stderr
        assert (tmp_path / "s" / "token").read_text() == "old"


def test_names_with_blanks_and_quotes_stay_names(tmp_path: Path) -> None:
    odd = tmp_path / "a b'c\"$(touch x)"
    script = push_protocol.remote_command(["token"], str(odd))
    assert (
        run_remote_command(script, tmp_path / "bin", push_protocol.payload({"token": TOKEN}), "0").returncode
        == 0
    )
    assert (odd / "token").read_text() == TOKEN
    assert shlex.split(script)[:2] == ["sh", "-c"]


def test_it_leaves_no_file_behind(machine: Sshd, files: dict[str, Path], tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    argv = command(machine, tmp_path / "s", *both(files), "--fingerprint", machine.fingerprint, pinned=False)
    assert push(argv, TMPDIR=str(temporary)).returncode == 0
    assert list(temporary.iterdir()) == []
    wait_until(lambda: not machine.sessions(), "the sessions to end")
