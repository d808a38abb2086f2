"""`beta9-worker push-secrets` against a real sshd: what arrives, what is refused, and what nobody may see."""

from __future__ import annotations

import base64
import contextlib
import os
import shlex
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agent.core.provisioning import push_protocol
from agent.demo.sshd.program import free_port
from tests.integration.ssh_client import wait_until
from tests.sshd import Sshd

TOKEN = "t0KeN-" + "a" * 82
ROOT = Path(__file__).parents[3]
ORDINARY = {"ForceCommand": None, "Subsystem": None}
"""A machine's own sshd, which runs commands."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Sshd]:
    """The machine, and its user's key let in."""
    with Sshd(tmp_path / "sshd", options=ORDINARY) as running:
        running.authorize(running.public_key())
        yield running


@pytest.fixture
def files(tmp_path: Path, machine: Sshd) -> dict[str, Path]:
    """Token and key as a person has them."""
    token = tmp_path / "my token"
    token.write_text(f"{TOKEN}\n")
    return {"token": token, "ssh_key": machine.make_key("tunnel_key")}


def command(machine: Sshd, directory: Path, *words: str, pinned: bool = True) -> list[str]:
    known = ["--known-hosts", str(machine.known_hosts_path)] if pinned else []
    where = [f"{machine.user}@{machine.host}", "--port", str(machine.port), "--directory", str(directory)]
    login = ["--identity", str(machine.key_path)]
    return [sys.executable, "-m", "agent", "push-secrets", *where, *login, *known, *words]


def pushed(argv: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BETA9_")}
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=180, cwd=ROOT, env={**clean, **environ}
    )


def both(files: dict[str, Path]) -> list[str]:
    return ["--token-file", str(files["token"]), "--ssh-key-file", str(files["ssh_key"])]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_both_arrive_whole_and_for_their_owner_alone(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    there = tmp_path / "etc dir" / "secrets"
    done = pushed(command(machine, there, *both(files)))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"token: written to {machine.host}:{there}/token",
        f"ssh_key: written to {machine.host}:{there}/ssh_key",
    ]
    assert (there / "token").read_text() == TOKEN
    assert (there / "ssh_key").read_text() == files["ssh_key"].read_text()
    assert [mode(path) for path in (there, there / "token", there / "ssh_key")] == [0o700, 0o600, 0o600]
    assert sorted(path.name for path in there.iterdir()) == ["ssh_key", "token"]


def test_a_second_time_nothing_changes_and_that_is_said(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    there = tmp_path / "secrets"
    pushed(command(machine, there, *both(files)))
    before = (there / "token").stat().st_ino
    done = pushed(command(machine, there, *both(files)))
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == f"token: {machine.host}:{there}/token was the same already"
    assert (there / "token").stat().st_ino == before


def test_a_new_token_takes_the_old_one_s_place_and_the_key_stays(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    there = tmp_path / "secrets"
    pushed(command(machine, there, *both(files)))
    done = pushed(command(machine, there), BETA9_TOKEN="another")
    assert done.stdout.splitlines() == [f"token: written to {machine.host}:{there}/token"]
    assert (there / "token").read_text() == "another"
    assert (there / "ssh_key").read_text() == files["ssh_key"].read_text()


def test_a_tailnet_s_key_goes_the_same_way(machine: Sshd, tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("tskey-auth-x\n")
    done = pushed(command(machine, tmp_path / "s", "--tailscale-auth-file", str(tmp_path / "auth")))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s" / "tailscale_auth").read_text() == "tskey-auth-x"


def test_a_key_without_its_last_line_break_is_given_one(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    there, bare = tmp_path / "secrets", tmp_path / "bare"
    bare.write_text(files["ssh_key"].read_text().strip())
    assert pushed(command(machine, there), BETA9_SSH_KEY_FILE=str(bare)).returncode == 0
    assert (there / "ssh_key").read_text() == files["ssh_key"].read_text()


def test_no_command_line_here_or_there_holds_a_secret(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    """Every command line of every process is looked at, again and again, while it works."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):  # it has ended
                    seen.add(" ".join(process.cmdline()))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        assert pushed(command(machine, tmp_path / "secrets", *both(files))).returncode == 0
    finally:
        over.set()
        watcher.join()
    assert any("push-secrets" in line for line in seen)
    assert any("put token" in line for line in seen), "the command over there was not caught"
    key = files["ssh_key"].read_text()
    for secret in (TOKEN, base64.b64encode(TOKEN.encode()).decode()[:40], key.splitlines()[1]):
        assert not [line for line in seen if secret in line]


# --- Who the machine is ------------------------------------------------------------------------------------


def test_an_unknown_host_key_is_refused_and_nothing_is_sent(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    there, empty = tmp_path / "secrets", tmp_path / "known_hosts"
    empty.write_text("")
    done = pushed(command(machine, there, *both(files), "--known-hosts", str(empty), pinned=False))
    assert (done.returncode, done.stdout) == (78, "")
    assert "its host key is not a known one and nothing was sent" in done.stderr
    assert not there.exists()
    assert empty.read_text() == ""


def test_another_host_key_than_the_known_one_is_refused(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    pinned = tmp_path / "known_hosts"
    pinned.write_text(machine.known_hosts)
    machine.rotate_host_key()
    done = pushed(command(machine, tmp_path / "s", *both(files), "--known-hosts", str(pinned), pinned=False))
    assert done.returncode == 78
    assert "nothing was sent" in done.stderr
    assert not (tmp_path / "s").exists()


def test_the_right_fingerprint_is_enough(machine: Sshd, files: dict[str, Path], tmp_path: Path) -> None:
    words = [*both(files), "--fingerprint", machine.fingerprint]
    done = pushed(command(machine, tmp_path / "s", *words, pinned=False))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "s" / "token").read_text() == TOKEN


def test_a_wrong_fingerprint_is_refused_with_the_one_that_was_shown(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    wrong = f"SHA256:{'A' * 43}"
    done = pushed(command(machine, tmp_path / "s", *both(files), "--fingerprint", wrong, pinned=False))
    assert done.returncode == 78
    assert f"shows the host key {machine.fingerprint}, not {wrong}: nothing was sent" in done.stderr
    assert not (tmp_path / "s").exists()


# --- Machines that boot, and logins that fail --------------------------------------------------------------


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
        assert process.stderr.readline().startswith(f"push-secrets: waiting: {late.host}")
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
    done = pushed(
        command(late, tmp_path / "s", *both(files), "--known-hosts", str(pin), "--wait", "1", pinned=False)
    )
    assert done.returncode == 75
    assert "was not reached" in done.stderr
    assert "is it up, and does its firewall let ssh in?" in done.stderr
    assert time.monotonic() - began_s >= 1


def test_a_key_that_the_machine_does_not_know_is_said(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    machine.authorize()
    done = pushed(command(machine, tmp_path / "s", *both(files), "--wait", "0"))
    assert done.returncode == 77
    assert "it does not let this user in with this key" in done.stderr


def test_a_directory_that_cannot_be_written_is_said(
    machine: Sshd, files: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = pushed(command(machine, tmp_path / "file" / "secrets", *both(files)))
    assert done.returncode == 78
    assert "took no secrets" in done.stderr
    assert "Not a directory" in done.stderr


def test_a_shell_that_greets_does_not_confuse_it(
    files: dict[str, Path], tmp_path: Path, machine: Sshd
) -> None:
    machine.reconfigure({"ForceCommand": 'echo beta9 welcomes you; echo; eval "$SSH_ORIGINAL_COMMAND"; true'})
    done = pushed(command(machine, tmp_path / "s", *both(files)))
    assert done.returncode == 0
    assert (tmp_path / "s" / "token").read_text() == TOKEN


def test_an_answer_that_is_none_is_no_success(files: dict[str, Path], tmp_path: Path, machine: Sshd) -> None:
    machine.reconfigure({"ForceCommand": "cat >/dev/null; true"})
    done = pushed(command(machine, tmp_path / "s", *both(files)))
    assert done.returncode == 75
    assert "did not say that it wrote them" in done.stderr


# --- Who writes it there -----------------------------------------------------------------------------------


def there(script: str, path: Path, stdin: str, who: str) -> subprocess.CompletedProcess[str]:
    """The command as a login shell gets it, with `id` and `sudo` of our own on the PATH."""
    path.mkdir(exist_ok=True)
    for name, text in {
        "id": f"echo {who}",
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
    assert there(script, tmp_path / "bin", line, "0").stdout == "beta9 new token\n"
    assert not (tmp_path / "bin" / "asked").exists()
    assert there(script, tmp_path / "bin", line, "1000").stdout == "beta9 same token\n"
    assert (tmp_path / "bin" / "asked").read_text() == "sudo -n --\n"


def test_what_is_cut_off_on_the_way_replaces_nothing(tmp_path: Path) -> None:
    script = push_protocol.remote_command(["token"], str(tmp_path / "s"))
    there(script, tmp_path / "bin", push_protocol.payload({"token": "old"}), "0")
    for cut in ("", "dG9r", push_protocol.payload({"token": "new"})[:-2]):
        done = there(script, tmp_path / "bin", cut, "0")
        assert done.returncode == 65
        assert "cut off" in done.stderr
        assert (tmp_path / "s" / "token").read_text() == "old"


def test_names_with_blanks_and_quotes_stay_names(tmp_path: Path) -> None:
    odd = tmp_path / "a b'c\"$(touch x)"
    script = push_protocol.remote_command(["token"], str(odd))
    assert there(script, tmp_path / "bin", push_protocol.payload({"token": TOKEN}), "0").returncode == 0
    assert (odd / "token").read_text() == TOKEN
    assert shlex.split(script)[:2] == ["sh", "-c"]


@pytest.mark.parametrize(
    ("words", "told"),
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
    words: list[str], told: str, tmp_path: Path
) -> None:
    token = [] if words == ["host"] else ["--token-file", str(tmp_path / "token")]
    (tmp_path / "token").write_text(TOKEN)
    done = pushed([sys.executable, "-m", "agent", "push-secrets", *words, *token])
    assert (done.returncode, done.stdout) == (78, "")
    assert told in done.stderr
    assert TOKEN not in done.stderr


def test_it_leaves_no_file_behind(machine: Sshd, files: dict[str, Path], tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    argv = command(machine, tmp_path / "s", *both(files), "--fingerprint", machine.fingerprint, pinned=False)
    assert pushed(argv, TMPDIR=str(temporary)).returncode == 0
    assert list(temporary.iterdir()) == []
    wait_until(lambda: not machine.sessions(), "the sessions to end")
