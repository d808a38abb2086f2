"""Private keys in the states in which people have them, used through the private copy that ssh gets."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.secrets.resolver import Secrets
from agent.adapters.ssh.private_key import private_key_copy
from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.demo.sshd.throwaway import ThrowAwaySshd
from agent.errors import SettingsError, TransientError
from agent.settings import SecretRef
from tests.integration.logins import login

GRANT = Grant(("1165a9b6",))


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[ThrowAwaySshd]:
    with ThrowAwaySshd(tmp_path / "sshd", grant=GRANT) as server:
        yield server


def copied(file: Path, directory: Path) -> Path:
    """Make the private copy, as the agent does before each connect."""
    text = Secrets().resolve(SecretRef("BETA9_SSH_KEY", file=file))
    return private_key_copy(text, directory, file, in_memory=()).path


@pytest.mark.fault(23)
def test_fault_23_a_key_without_its_final_newline_works(sshd: ThrowAwaySshd, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(sshd.key_path.read_text().rstrip("\n"))
    file.chmod(0o600)
    assert "error in libcrypto" in login(sshd, file, sshd.known_hosts_path), "ssh itself cannot use it"
    assert login(sshd, copied(file, tmp_path), sshd.known_hosts_path) == ""


@pytest.mark.fault(23)
def test_fault_23_a_key_that_others_may_read_works_on_a_private_copy(
    sshd: ThrowAwaySshd, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(sshd.key_path.read_text())
    file.chmod(0o644)
    assert "UNPROTECTED PRIVATE KEY FILE" in login(sshd, file, sshd.known_hosts_path), "ssh itself refuses it"
    copy = copied(file, tmp_path)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    assert login(sshd, copy, sshd.known_hosts_path) == ""


@pytest.mark.fault(23)
def test_fault_23_an_encrypted_key_is_refused_with_the_way_out(sshd: ThrowAwaySshd, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(sshd.key_path.read_bytes())
    file.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "passphrase", "-f", str(file)], check=True)
    with pytest.raises(
        SettingsError, match=r"BETA9_SSH_KEY: .*key is encrypted with a passphrase.*ssh-keygen"
    ):
        copied(file, tmp_path)


@pytest.mark.fault(22)
def test_fault_22_a_key_rotated_on_disk_is_used_at_the_next_connect(
    sshd: ThrowAwaySshd, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(sshd.key_path.read_text())
    assert login(sshd, copied(file, tmp_path), sshd.known_hosts_path) == ""
    new = sshd.make_key("new")
    sshd.authorize(key_line(sshd.public_key(new), GRANT))
    assert "Permission denied" in login(sshd, copied(file, tmp_path), sshd.known_hosts_path)
    file.write_text(new.read_text())
    assert login(sshd, copied(file, tmp_path), sshd.known_hosts_path) == ""


def test_windows_line_ends_work(sshd: ThrowAwaySshd, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(sshd.key_path.read_bytes().replace(b"\n", b"\r\n"))
    assert login(sshd, copied(file, tmp_path), sshd.known_hosts_path) == ""


def test_a_user_certificate_beside_the_key_is_used(sshd: ThrowAwaySshd, tmp_path: Path) -> None:
    authority = sshd.make_key("authority")
    sshd.authorize(key_line(sshd.public_key(authority), GRANT, cert_authority=True))
    file = sshd.make_key("machine_key")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "machine", "-n", sshd.user, f"{file}.pub"]
    subprocess.run(sign, check=True, capture_output=True)
    copy = private_key_copy(file.read_text(), tmp_path, file, in_memory=())
    assert login(sshd, copy.path, sshd.known_hosts_path) == ""
    Path(f"{file}-cert.pub").unlink()
    copy = private_key_copy(file.read_text(), tmp_path, file, in_memory=())
    assert copy.certificate is None
    assert "Permission denied" in login(sshd, copy.path, sshd.known_hosts_path)


def test_the_copy_stays_out_of_disks_and_is_removed(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    copy = private_key_copy(key, tmp_path / "state")
    kinds = subprocess.run(
        ["stat", "-f", "-c", "%T", str(copy.path.parent)], check=True, capture_output=True, text=True
    )
    in_memory = kinds.stdout.strip() in {"tmpfs", "ramfs"}
    assert in_memory or copy.path.is_relative_to(tmp_path / "state")
    copy.remove()
    assert not copy.path.parent.exists()
    copy.remove()


def test_two_agents_have_copies_of_their_own(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    one, two = (private_key_copy(key, tmp_path / name) for name in ("one", "two"))
    assert one.path != two.path
    one.remove()
    assert two.path.exists()
    two.remove()


def test_a_place_that_somebody_else_took_is_not_used(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    taken = private_key_copy(key, tmp_path).path.parent
    private_key_copy(key, tmp_path).remove()
    taken.symlink_to(tmp_path)
    try:
        copy = private_key_copy(key, tmp_path)
        assert not copy.path.is_relative_to(taken)
        copy.remove()
    finally:
        taken.unlink()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(TransientError, match="no place for the private copy"):
        private_key_copy(key, tmp_path / "file", in_memory=())


def make_key(directory: Path) -> str:
    file = directory / "made"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file.read_text()
