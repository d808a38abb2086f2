"""A new machine's host key: taken when the machine proves it or it was given, refused when somebody else answers."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.terraform.machine import PATH, Machine, machine

pytestmark = pytest.mark.terraform

PROGRAM = Path(__file__).resolve().parents[3] / "terraform/lib/first_contact.py"
NONCE = str(uuid.uuid4())


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        made.write_env(f"BETA9_HOST_KEY_NONCE={NONCE}\nBETA9_POOL_NAME=gpu\n")
        yield made


def meet(new: Machine, known_hosts: Path, **more: str) -> tuple[int, str]:
    """Make first contact as Terraform does; returns the exit code and all that was said."""
    given = {**new.environment(), "KNOWN_HOSTS_FILE": str(known_hosts), "TIMEOUT_S": "5", **more}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], env=given, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_a_machine_that_has_our_nonce_proves_its_key(new: Machine, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    code, said = meet(new, known_hosts, NONCE=NONCE)
    assert code == 0, said
    assert known_hosts.read_text() == new.sshd.known_hosts
    assert NONCE not in said


def test_who_is_in_between_has_another_key_and_no_proof(new: Machine, tmp_path: Path) -> None:
    """He may even pass on what the machine says of its own key: it is not the key that he shows."""
    proven = new.sshd.known_hosts
    new.sshd.rotate_host_key()
    assert new.sshd.known_hosts != proven
    code, said = meet(new, tmp_path / "known_hosts", NONCE=NONCE)
    assert code == 1
    assert "cannot prove" in said
    assert not (tmp_path / "known_hosts").exists()


def test_who_is_in_between_does_not_know_the_nonce(new: Machine, tmp_path: Path) -> None:
    new.write_env(f"BETA9_HOST_KEY_NONCE={uuid.uuid4()}\n")
    code, said = meet(new, tmp_path / "known_hosts", NONCE=NONCE)
    assert code == 1
    assert "cannot prove" in said
    assert not (tmp_path / "known_hosts").exists()


def test_a_machine_without_a_nonce_proves_nothing(new: Machine, tmp_path: Path) -> None:
    new.write_env("BETA9_POOL_NAME=gpu\n")
    code, said = meet(new, tmp_path / "known_hosts", NONCE=NONCE)
    assert code == 1
    assert "cannot prove" in said


def test_user_data_that_comes_late_is_waited_for(new: Machine, tmp_path: Path) -> None:
    (new.root / "etc/beta9-worker/worker.env").unlink()
    code, said = meet(new, tmp_path / "known_hosts", NONCE=NONCE, TIMEOUT_S="2")
    assert code == 1
    assert "not to be had after 2 s" in said


def test_a_key_that_was_given_is_taken(new: Machine, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    code, said = meet(new, known_hosts, HOST_KEY=f"{new.host_key} root@machine\n")
    assert code == 0, said
    assert known_hosts.read_text() == new.sshd.known_hosts


def test_another_key_than_the_one_given_is_refused(new: Machine, tmp_path: Path) -> None:
    given = new.host_key
    new.sshd.rotate_host_key()
    new.publish_host_keys()
    code, said = meet(new, tmp_path / "known_hosts", HOST_KEY=given, NONCE=NONCE)
    assert code == 1
    assert "another host key" in said
    assert not (tmp_path / "known_hosts").exists()


def test_with_nothing_to_know_it_by_no_machine_is_known(new: Machine, tmp_path: Path) -> None:
    code, said = meet(new, tmp_path / "known_hosts")
    assert code == 1
    assert "nothing to know the machine by" in said


def test_a_machine_that_does_not_let_us_in_is_named(new: Machine, tmp_path: Path) -> None:
    new.sshd.authorize()
    code, said = meet(new, tmp_path / "known_hosts", NONCE=NONCE, TIMEOUT_S="1")
    assert code == 1
    assert "Permission denied" in said


@pytest.mark.parametrize(("uid", "through"), [("0", ""), ("1000", "sudo -n ")])
def test_who_is_not_root_becomes_root_without_a_password(uid: str, through: str, tmp_path: Path) -> None:
    """Logged in as somebody else, every command goes through sudo, with its words and its input as they are."""
    for name, text in {
        "id": f"echo {uid}",
        "sudo": f'echo "sudo $*" >{tmp_path}/asked; shift; exec "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    line = "import first_contact; print(first_contact.as_root(\"sh -c 'cat; echo $1' sh 'a word'\"))"
    made = subprocess.run(
        [sys.executable, "-c", line], cwd=PROGRAM.parent, capture_output=True, text=True, check=True
    )
    done = subprocess.run(
        ["bash", "-c", made.stdout],
        input="input\n",
        env={"PATH": f"{tmp_path}:{PATH}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "input\na word\n", done.stderr
    asked = (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
    assert asked == (f"{through}sh -c cat; echo $1 sh a word\n" if through else "")
