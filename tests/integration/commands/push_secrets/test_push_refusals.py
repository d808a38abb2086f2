"""Machines and secrets that are refused, and machines that are not up yet."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.core.tunnel.key_formats import fingerprint
from agent.demo.sshd.program import free_port
from tests import ROOT
from tests.integration.commands.push_secrets.pushing import ORDINARY, TOKEN, both, command, push
from tests.sshd import Sshd


def test_an_unknown_host_key_is_refused_and_nothing_is_sent(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    remote, empty = tmp_path / "secrets", tmp_path / "known_hosts"
    empty.write_text("")
    result = push(command(machine, remote, *both(files), "--known-hosts", str(empty), pinned=False))
    assert (result.returncode, result.stdout) == (78, "")
    assert "its host key is unknown, so nothing was sent" in result.stderr
    assert not remote.exists()
    assert empty.read_text() == ""


def test_another_host_key_than_the_known_one_is_refused(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    pinned = tmp_path / "known_hosts"
    pinned.write_text(machine.known_hosts)
    machine.rotate_host_key()
    result = push(command(machine, tmp_path / "s", *both(files), "--known-hosts", str(pinned), pinned=False))
    assert result.returncode == 78
    assert "nothing was sent" in result.stderr
    assert not (tmp_path / "s").exists()


def test_the_right_fingerprint_is_enough(machine: Sshd, files: dict[str, Path], tmp_path: Path) -> None:
    words = [*both(files), "--fingerprint", machine.fingerprint]
    result = push(command(machine, tmp_path / "s", *words, pinned=False))
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "s" / "token").read_text() == TOKEN


def test_a_wrong_fingerprint_is_refused_with_the_one_that_was_shown(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    wrong = f"SHA256:{'A' * 43}"
    result = push(command(machine, tmp_path / "s", *both(files), "--fingerprint", wrong, pinned=False))
    assert result.returncode == 78
    assert f"shows the host key {machine.fingerprint}, not {wrong}: nothing was sent" in result.stderr
    assert not (tmp_path / "s").exists()


def test_a_pinned_key_of_another_type_is_asked_for(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    machine.add_host_key("rsa")
    pin = fingerprint(machine.known_hosts.splitlines()[1].split()[2])
    assert pin is not None
    words = [*both(files), "--fingerprint", f"SHA256:{'A' * 43},{pin}"]
    result = push(command(machine, tmp_path / "s", *words, pinned=False))
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "s" / "token").read_text() == TOKEN


@pytest.mark.parametrize("by_fingerprint", [False, True])
def test_a_machine_that_still_boots_is_waited_for(
    files: dict[str, Path], tmp_path: Path, by_fingerprint: bool
) -> None:
    late = Sshd(tmp_path / "late", options=ORDINARY, port=free_port("127.0.0.1"))
    late.authorize(late.public_key())
    pin = tmp_path / "pin"
    pin.write_text(late.known_hosts)
    known = ["--fingerprint", late.fingerprint] if by_fingerprint else ["--known-hosts", str(pin)]
    process = subprocess.Popen(
        command(late, tmp_path / "s", *both(files), *known, pinned=False),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stderr
        assert process.stderr.readline().startswith(f"push-secrets: waiting: cannot reach {late.host} (ssh: ")
        with late:
            out, _ = process.communicate(timeout=120)
            assert process.returncode == 0
            assert out.startswith("token: written to")
    finally:
        process.kill()
        process.wait()


def test_a_machine_that_never_comes_is_given_up(files: dict[str, Path], tmp_path: Path) -> None:
    late = Sshd(tmp_path / "late", port=free_port("127.0.0.1"))
    pin = tmp_path / "pin"
    pin.write_text(late.known_hosts)
    began_s = time.monotonic()
    result = push(
        command(late, tmp_path / "s", *both(files), "--known-hosts", str(pin), "--wait", "1", pinned=False)
    )
    assert result.returncode == 75
    assert "cannot reach" in result.stderr
    assert "is it running, and does its firewall allow ssh?" in result.stderr
    assert time.monotonic() - began_s >= 1


def test_a_key_that_the_machine_does_not_know_is_said(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    machine.authorize()
    result = push(command(machine, tmp_path / "s", *both(files), "--wait", "0"))
    assert result.returncode == 77
    assert "it rejects this user or key" in result.stderr


def test_a_directory_that_cannot_be_written_is_said(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = push(command(machine, tmp_path / "file" / "secrets", *both(files)))
    assert result.returncode == 78
    assert "did not store the secrets" in result.stderr
    assert "Not a directory" in result.stderr


def test_a_shell_that_greets_does_not_confuse_it(
    files: dict[str, Path], tmp_path: Path, machine: Sshd
) -> None:
    machine.reconfigure({"ForceCommand": 'echo beta9 welcomes you; echo; eval "$SSH_ORIGINAL_COMMAND"; true'})
    result = push(command(machine, tmp_path / "s", *both(files)))
    assert result.returncode == 0
    assert (tmp_path / "s" / "token").read_text() == TOKEN


def test_an_answer_that_is_none_is_no_success(files: dict[str, Path], tmp_path: Path, machine: Sshd) -> None:
    machine.reconfigure({"ForceCommand": "cat >/dev/null; true"})
    result = push(command(machine, tmp_path / "s", *both(files)))
    assert result.returncode == 75
    assert "did not confirm that it wrote them" in result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["root@host:22"], "USER@HOST"),
        (["-x@host"], "USER@HOST"),
        (["a b@host"], "USER@HOST"),
        (["host", "--port", "x"], "--port"),
        (["host", "--directory", "etc"], "--directory"),
        (["host", "--fingerprint", "MD5:aa"], "--fingerprint"),
        (["host", "--identity", "/not/here"], "there is no file /not/here"),
        (["host"], "no secret is given"),
    ],
)
def test_what_is_misspelt_is_said_before_anything_is_dialled(
    words: list[str], expected: str, tmp_path: Path
) -> None:
    token = [] if words == ["host"] else ["--token-file", str(tmp_path / "token")]
    (tmp_path / "token").write_text(TOKEN)
    result = push([sys.executable, "-m", "agent", "push-secrets", *words, *token])
    assert (result.returncode, result.stdout) == (78, "")
    assert expected in result.stderr
    assert TOKEN not in result.stderr
