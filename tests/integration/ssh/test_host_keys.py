"""First contact with a real sshd: pinned lines, fingerprints, certificate authorities, and mismatches."""

from __future__ import annotations

import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.secrets.resolver import Secrets
from agent.adapters.ssh import host_keys
from agent.adapters.ssh.host_keys import known_hosts_file
from agent.core.provisioning.authorized_keys import Grant
from agent.core.tunnel.key_formats import fingerprint
from agent.errors import SettingsError, TransientError
from agent.settings import Settings, load
from tests.integration.logins import login
from tests.integration.proxy import proxied
from tests.sshd import Sshd

OTHER = "SHA256:" + "A" * 43


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd", grant=Grant(("1165a9b6",))) as server:
        yield server


def settings_for(server: Sshd, tmp_path: Path, **pins: str) -> Settings:
    environ = {
        "BETA9_TOKEN": "a-token",
        "BETA9_POOL_NAME": "gpu",
        "BETA9_SSH_HOST": server.host,
        "BETA9_SSH_PORT": str(server.port),
        "BETA9_SSH_KEY_FILE": str(server.key_path),
        **pins,
    }
    return load({}, environ, directory=tmp_path, etc=tmp_path)


def write(settings: Settings, directory: Path) -> Path:
    return known_hosts_file(settings, Secrets().resolve, directory)


def test_pinned_lines_let_ssh_in(sshd: Sshd, tmp_path: Path) -> None:
    settings = settings_for(sshd, tmp_path, BETA9_SSH_KNOWN_HOSTS=sshd.known_hosts)
    path = write(settings, tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert login(sshd, sshd.key_path, path) == ""


def test_hashed_host_names_and_windows_line_ends_work(sshd: Sshd, tmp_path: Path) -> None:
    pinned = tmp_path / "pinned"
    pinned.write_text(sshd.known_hosts)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(pinned)], check=True, capture_output=True)
    assert sshd.host not in pinned.read_text()
    pinned.write_text(pinned.read_text().rstrip("\n").replace("\n", "\r\n") + "\r\n")
    settings = settings_for(sshd, tmp_path, BETA9_SSH_KNOWN_HOSTS_FILE=str(pinned))
    assert login(sshd, sshd.key_path, write(settings, tmp_path)) == ""


def test_a_certificate_authority_for_hosts_lets_ssh_in(sshd: Sshd, tmp_path: Path) -> None:
    authority = sshd.make_key("authority")
    host_key = sshd.directory / "host_key"
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "host", "-h", "-n", sshd.host, f"{host_key}.pub"]
    subprocess.run(sign, check=True, capture_output=True)
    sshd.reconfigure({"HostCertificate": f"{host_key}-cert.pub"})
    line = f"@cert-authority [{sshd.host}]:* {sshd.public_key(authority)}"
    path = write(settings_for(sshd, tmp_path, BETA9_SSH_KNOWN_HOSTS=line), tmp_path)
    assert login(sshd, sshd.key_path, path) == ""


def test_pinned_lines_are_read_anew_each_time(sshd: Sshd, tmp_path: Path) -> None:
    pinned = tmp_path / "pinned"
    pinned.write_text(sshd.known_hosts)
    settings = settings_for(sshd, tmp_path, BETA9_SSH_KNOWN_HOSTS_FILE=str(pinned))
    write(settings, tmp_path)
    sshd.rotate_host_key()
    assert "Host key verification failed" in login(sshd, sshd.key_path, write(settings, tmp_path))
    pinned.write_text(sshd.known_hosts)
    assert login(sshd, sshd.key_path, write(settings, tmp_path)) == ""


def test_a_scanned_key_with_the_fingerprint_is_pinned_alone(sshd: Sshd, tmp_path: Path) -> None:
    sshd.add_host_key("ecdsa")
    settings = settings_for(sshd, tmp_path, BETA9_SSH_HOST_KEY_FINGERPRINT=sshd.fingerprint)
    path = write(settings, tmp_path)
    assert path.read_text() == sshd.known_hosts.splitlines(keepends=True)[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert login(sshd, sshd.key_path, path) == ""


def test_one_of_several_fingerprints_is_enough(sshd: Sshd, tmp_path: Path) -> None:
    settings = settings_for(sshd, tmp_path, BETA9_SSH_HOST_KEY_FINGERPRINT=f"{OTHER}, {sshd.fingerprint}")
    assert login(sshd, sshd.key_path, write(settings, tmp_path)) == ""


def test_a_proven_key_is_not_scanned_again(sshd: Sshd, tmp_path: Path) -> None:
    settings = settings_for(sshd, tmp_path, BETA9_SSH_HOST_KEY_FINGERPRINT=sshd.fingerprint)
    first = write(settings, tmp_path).read_text()
    sshd.stop()
    assert write(settings, tmp_path).read_text() == first


def test_a_file_that_was_tampered_with_is_not_used(sshd: Sshd, tmp_path: Path) -> None:
    settings = settings_for(sshd, tmp_path, BETA9_SSH_HOST_KEY_FINGERPRINT=sshd.fingerprint)
    path = write(settings, tmp_path)
    proven = path.read_text()
    foreign = sshd.public_key(sshd.make_key("foreign"))
    path.write_text(proven + f"[{sshd.host}]:{sshd.port} {foreign}\n")
    assert write(settings, tmp_path).read_text() == proven


def test_a_new_fingerprint_is_scanned_for(sshd: Sshd, tmp_path: Path) -> None:
    write(settings_for(sshd, tmp_path, BETA9_SSH_HOST_KEY_FINGERPRINT=sshd.fingerprint), tmp_path)
    sshd.rotate_host_key()
    settings = settings_for(sshd, tmp_path, BETA9_SSH_HOST_KEY_FINGERPRINT=sshd.fingerprint)
    assert login(sshd, sshd.key_path, write(settings, tmp_path)) == ""


def test_a_server_with_another_key_is_refused_with_both_fingerprints(sshd: Sshd, tmp_path: Path) -> None:
    settings = settings_for(sshd, tmp_path, BETA9_SSH_HOST_KEY_FINGERPRINT=OTHER)
    with pytest.raises(SettingsError) as caught:
        write(settings, tmp_path)
    message = str(caught.value)
    assert message.startswith("BETA9_SSH_HOST_KEY_FINGERPRINT: ")
    assert OTHER in message
    assert f"{sshd.fingerprint} (ssh-ed25519)" in message
    assert not (tmp_path / "known_hosts").exists()
    assert "Accepted" not in sshd.log()


@pytest.mark.parametrize(
    ("kind", "message"),
    [("ssh-ed25519", "not fetched"), ("ecdsa-sha2", "too slow to show its other host keys")],
)
def test_a_server_that_is_slow_with_the_expected_key_is_not_accused(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    """As on a booting machine: by the time-out there is no key, or only one of another type."""
    monkeypatch.setattr(host_keys, "CONNECT_TIMEOUT_S", 2)
    sshd.add_host_key("ecdsa")
    line = next(each for each in sshd.known_hosts.splitlines() if kind in each)
    pin = fingerprint(line.split()[2])
    assert pin is not None
    with proxied((sshd.host, sshd.port)) as proxy:
        pins = {"BETA9_SSH_HOST_KEY_FINGERPRINT": pin, "BETA9_SSH_PORT": str(proxy.port)}
        settings = settings_for(sshd, tmp_path, **pins)
        proxy.held = (kind.encode(), 60.0)
        with pytest.raises(TransientError, match=message):
            write(settings, tmp_path)
        proxy.held = (b"", 0.0)
        known_hosts = write(settings, tmp_path).read_text()
    assert known_hosts.split() == [f"[{sshd.host}]:{proxy.port}", *line.split()[1:3]]


def test_a_server_that_is_not_there_may_come(sshd: Sshd, tmp_path: Path) -> None:
    settings = settings_for(sshd, tmp_path, BETA9_SSH_HOST_KEY_FINGERPRINT=sshd.fingerprint)
    sshd.stop()
    with pytest.raises(TransientError, match="Connection refused"):
        write(settings, tmp_path)


def test_something_that_is_no_ssh_server_is_said(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_keys, "CONNECT_TIMEOUT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sshd.port = listener.getsockname()[1]
        settings = settings_for(sshd, tmp_path, BETA9_SSH_HOST_KEY_FINGERPRINT=sshd.fingerprint)
        with pytest.raises(TransientError, match="shows no SSH host key"):
            write(settings, tmp_path)
