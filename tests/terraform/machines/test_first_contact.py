"""The host key of a new machine: accepted when proven or given, refused when somebody else answers."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.terraform.machine import PATH, Machine, machine

pytestmark = pytest.mark.terraform

PROGRAM = ROOT / "terraform/lib/first_contact.py"
NONCE = str(uuid.uuid4())


@pytest.fixture
def new_machine(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        made.write_env(f"BETA9_HOST_KEY_NONCE={NONCE}\nBETA9_POOL_NAME=gpu\n")
        yield made


def verify(new_machine: Machine, known_hosts: Path, **more: str) -> tuple[int, str]:
    """Run first_contact.py as Terraform does; return its exit code and all its output."""
    environment = {
        **new_machine.environment(),
        "KNOWN_HOSTS_FILE": str(known_hosts),
        "TIMEOUT_S": "5",
        **more,
    }
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_a_machine_with_the_nonce_proves_its_key(new_machine: Machine, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    code, output = verify(new_machine, known_hosts, NONCE=NONCE)
    assert code == 0, output
    assert known_hosts.read_text() == new_machine.sshd.known_hosts
    assert NONCE not in output


def test_a_man_in_the_middle_has_another_key_and_no_proof(new_machine: Machine, tmp_path: Path) -> None:
    """Even relaying the machine's proof does not help, since it proves a key other than the one shown."""
    proven = new_machine.sshd.known_hosts
    new_machine.sshd.rotate_host_key()
    assert new_machine.sshd.known_hosts != proven
    code, output = verify(new_machine, tmp_path / "known_hosts", NONCE=NONCE)
    assert code == 1
    assert "cannot prove" in output
    assert not (tmp_path / "known_hosts").exists()


def test_a_man_in_the_middle_does_not_know_the_nonce(new_machine: Machine, tmp_path: Path) -> None:
    new_machine.write_env(f"BETA9_HOST_KEY_NONCE={uuid.uuid4()}\n")
    code, output = verify(new_machine, tmp_path / "known_hosts", NONCE=NONCE)
    assert code == 1
    assert "cannot prove" in output
    assert not (tmp_path / "known_hosts").exists()


def test_a_machine_without_a_nonce_proves_nothing(new_machine: Machine, tmp_path: Path) -> None:
    new_machine.write_env("BETA9_POOL_NAME=gpu\n")
    code, output = verify(new_machine, tmp_path / "known_hosts", NONCE=NONCE)
    assert code == 1
    assert "cannot prove" in output


def test_user_data_that_comes_late_is_waited_for(new_machine: Machine, tmp_path: Path) -> None:
    (new_machine.root / "etc/beta9-worker/worker.env").unlink()
    code, output = verify(new_machine, tmp_path / "known_hosts", NONCE=NONCE, TIMEOUT_S="2")
    assert code == 1
    assert "is not ready after 2 s" in output


def test_a_given_key_is_accepted(new_machine: Machine, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    code, output = verify(new_machine, known_hosts, HOST_KEY=f"{new_machine.host_key} root@machine\n")
    assert code == 0, output
    assert known_hosts.read_text() == new_machine.sshd.known_hosts


def test_a_key_other_than_the_given_one_is_refused(new_machine: Machine, tmp_path: Path) -> None:
    given = new_machine.host_key
    new_machine.sshd.rotate_host_key()
    new_machine.publish_host_keys()
    code, output = verify(new_machine, tmp_path / "known_hosts", HOST_KEY=given, NONCE=NONCE)
    assert code == 1
    assert "differs from the one in" in output
    assert not (tmp_path / "known_hosts").exists()


@pytest.fixture
def own_known_hosts(tmp_path: Path) -> Path:
    """The known_hosts of the person who runs Terraform, with HOME=tmp_path."""
    (tmp_path / ".ssh").mkdir()
    return tmp_path / ".ssh/known_hosts"


@pytest.mark.parametrize("hashed", [False, True])
def test_a_key_in_ones_own_known_hosts_is_accepted(
    hashed: bool, new_machine: Machine, own_known_hosts: Path, tmp_path: Path
) -> None:
    own_known_hosts.write_text(f"other.example.com {new_machine.host_key}\n{new_machine.sshd.known_hosts}")
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", own_known_hosts], check=True, capture_output=True)
    known_hosts = tmp_path / "known_hosts"
    code, output = verify(new_machine, known_hosts, TRUST_KNOWN_HOSTS="1", HOME=str(tmp_path))
    assert code == 0, output
    assert known_hosts.read_text() == new_machine.sshd.known_hosts


def test_another_key_than_that_in_ones_own_known_hosts_is_refused(
    new_machine: Machine, own_known_hosts: Path, tmp_path: Path
) -> None:
    own_known_hosts.write_text(new_machine.sshd.known_hosts)
    new_machine.sshd.rotate_host_key()
    code, output = verify(new_machine, tmp_path / "k", TRUST_KNOWN_HOSTS="1", HOME=str(tmp_path))
    assert code == 1
    assert "differs from the one in" in output


@pytest.mark.parametrize("marker", [None, "@revoked "])
def test_a_machine_that_is_not_in_known_hosts_is_not_trusted(
    marker: str | None, new_machine: Machine, own_known_hosts: Path, tmp_path: Path
) -> None:
    if marker:
        own_known_hosts.write_text(marker + new_machine.sshd.known_hosts)
    code, output = verify(new_machine, tmp_path / "k", TRUST_KNOWN_HOSTS="1", HOME=str(tmp_path))
    assert code == 1
    assert "Log in to it once with ssh" in output
    assert not (tmp_path / "k").exists()


def test_without_key_and_nonce_no_machine_is_trusted(new_machine: Machine, tmp_path: Path) -> None:
    code, output = verify(new_machine, tmp_path / "known_hosts")
    assert code == 1
    assert "nothing identifies the machine" in output


def test_a_refused_login_is_reported(new_machine: Machine, tmp_path: Path) -> None:
    new_machine.sshd.authorize()
    code, output = verify(new_machine, tmp_path / "known_hosts", NONCE=NONCE, TIMEOUT_S="1")
    assert code == 1
    assert "Permission denied" in output


@pytest.mark.parametrize(("uid", "prefix"), [("0", ""), ("1000", "sudo -n ")])
def test_a_user_other_than_root_goes_through_sudo(uid: str, prefix: str, tmp_path: Path) -> None:
    """The command's arguments and its standard input reach it unchanged."""
    for name, text in {
        "id": f"echo {uid}",
        "sudo": f'echo "sudo $*" >{tmp_path}/sudo.log; shift; exec "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    line = "import first_contact; print(first_contact.as_root(\"sh -c 'cat; echo $1' sh 'a word'\"))"
    rendered = subprocess.run(
        [sys.executable, "-c", line], cwd=PROGRAM.parent, capture_output=True, text=True, check=True
    )
    done = subprocess.run(
        ["bash", "-c", rendered.stdout],
        input="input\n",
        env={"PATH": f"{tmp_path}:{PATH}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "input\na word\n", done.stderr
    log = tmp_path / "sudo.log"
    calls = log.read_text() if log.exists() else ""
    assert calls == (f"{prefix}sh -c cat; echo $1 sh a word\n" if prefix else "")
