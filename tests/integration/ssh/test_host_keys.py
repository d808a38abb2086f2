"""First contact with a real sshd: pinned lines, fingerprints, certificate authorities, and mismatches."""

from __future__ import annotations

import functools
import os
import queue
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.secrets.credentials import Credentials
from agent.adapters.secrets.resolver import Secrets
from agent.adapters.ssh.host_keys import known_hosts_file
from agent.adapters.ssh.tunnel import Tunnel
from agent.core.effects import StartLink
from agent.core.events import Event, LinkEnded, LinkLoggedIn
from agent.core.provisioning.authorized_keys import Grant
from agent.core.text.redaction import Redactor
from agent.core.tunnel.faults import FaultKind
from agent.core.tunnel.host_key_pins import lookup_name
from agent.core.tunnel.key_formats import fingerprint
from agent.core.tunnel.model import Purpose
from agent.core.tunnel.ssh_argv import Forwards
from agent.demo.sshd.program import free_port
from agent.settings import Settings, load
from tests.integration.lab import laboratory
from tests.integration.logins import login
from tests.integration.polling import DEADLINE_S, wait_for
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
        "BETA9_SSH_USER": server.user,
        "BETA9_SSH_KEY_FILE": str(server.key_path),
        **pins,
    }
    return load({}, environ, directory=tmp_path, etc=tmp_path)


def write(settings: Settings, directory: Path) -> Path:
    path = known_hosts_file(settings, Secrets().resolve, directory)
    assert path is not None
    return path


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


class Client:
    """The agent's ssh children, one login at a time."""

    def __init__(self, server: Sshd, tmp_path: Path, *pins: str) -> None:
        settings = settings_for(server, tmp_path, BETA9_SSH_HOST_KEY_FINGERPRINT=",".join(pins))
        self._credentials = Credentials(settings, tmp_path / "state" / "run", Redactor())
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        forwards = Forwards(gateway=f"127.0.0.1:{free_port('127.0.0.1')}:localhost:1")
        self.tunnel = Tunnel(self._credentials.endpoint, forwards, settings.policy, self._events.put)
        self._generation = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.tunnel.stop_all()
        self._credentials.close()

    def login(self) -> LinkLoggedIn | LinkEnded:
        """Start the api child, again if it runs; return how that went."""
        self._generation += 1
        self.tunnel.start(StartLink(Purpose.API, self._generation, None, session=True))
        while True:
            event = self._events.get(timeout=DEADLINE_S)
            if isinstance(event, (LinkLoggedIn, LinkEnded)) and event.generation == self._generation:
                return event

    def let_in(self) -> None:
        """Log in. Raises AssertionError if that fails."""
        event = self.login()
        assert isinstance(event, LinkLoggedIn), event

    def refused(self) -> LinkEnded:
        """Return why a login failed."""
        event = self.login()
        assert isinstance(event, LinkEnded), event
        return event


def fingerprints(server: Sshd) -> dict[str, str]:
    """Return the fingerprint of each host key by its type."""
    keys = [line.split()[1:3] for line in server.known_hosts.splitlines()]
    return {kind: fingerprint(key) or "" for kind, key in keys}


def connections(server: Sshd) -> tuple[int, int]:
    """Return how many connections sshd has seen, and how many of them logged in."""
    return server.log().count("Connection from"), server.log().count("Accepted publickey")


@pytest.mark.parametrize("others", [(), (OTHER,), (OTHER, "SHA256:" + "B" * 43)])
def test_every_connection_is_a_login_however_many_keys_are_pinned(
    sshd: Sshd, tmp_path: Path, others: tuple[str, ...]
) -> None:
    """Field case 9.1: host keys are not fetched, so a pin that is not shown costs no connection."""
    with Client(sshd, tmp_path, *others, sshd.fingerprint) as client:
        for _ in range(3):
            client.let_in()
    assert connections(sshd) == (3, 3)


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_a_pinned_key_of_another_type_is_asked_for_and_remembered(
    sshd: Sshd, tmp_path: Path, kind: str
) -> None:
    for each in ("ecdsa", "rsa"):
        sshd.add_host_key(each)
    pin = next(found for name, found in fingerprints(sshd).items() if kind in name)
    with Client(sshd, tmp_path, OTHER, pin) as client:
        client.let_in()
        tried, accepted = connections(sshd)
        assert accepted == 1
        assert tried <= len(fingerprints(sshd))
        client.let_in()
        assert connections(sshd) == (tried + 1, 2)


def test_a_key_that_is_replaced_while_both_are_pinned_disturbs_nobody(sshd: Sshd, tmp_path: Path) -> None:
    """Field case 9.1: as in a rotation, with the new key announced before it is used."""
    old = sshd.fingerprint
    sshd.rotate_host_key()
    new, following = sshd.fingerprint, sshd.make_key("following")
    with Client(sshd, tmp_path, old, new, fingerprint_of(sshd, following)) as client:
        client.let_in()
        sshd.use_host_key(following)
        client.let_in()
    assert connections(sshd) == (2, 2)


def fingerprint_of(server: Sshd, key: Path) -> str:
    found = fingerprint(server.public_key(key).split()[1])
    assert found
    return found


def test_what_was_found_out_about_a_server_is_forgotten_once_it_does_not_hold(
    sshd: Sshd, tmp_path: Path
) -> None:
    """The pinned key is of the second type; later the first type's key is replaced by another pinned one, alone."""
    sshd.add_host_key("ecdsa")
    later = sshd.make_key("later")
    with Client(
        sshd, tmp_path, *list(fingerprints(sshd).values())[1:], fingerprint_of(sshd, later)
    ) as client:
        client.let_in()
        sshd.use_host_key(later)
        client.let_in()


def test_a_server_with_another_key_is_refused_with_both_fingerprints(sshd: Sshd, tmp_path: Path) -> None:
    sshd.add_host_key("ecdsa")
    with Client(sshd, tmp_path, OTHER) as client:
        for _ in range(2):
            fault = client.refused().fault
            assert fault.kind is FaultKind.HOST_KEY
            shown = ", ".join(f"{found} ({kind})" for kind, found in fingerprints(sshd).items())
            name = lookup_name(sshd.host, sshd.port)
            assert fault.message.startswith(
                f"BETA9_SSH_HOST_KEY_FINGERPRINT: {name} showed {shown}, not {OTHER}; nothing was sent."
            )
    assert "Accepted" not in sshd.log()


def test_a_certificate_of_the_host_does_not_hide_its_pinned_key(sshd: Sshd, tmp_path: Path) -> None:
    authority, host_key = sshd.make_key("authority"), sshd.directory / "host_key"
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "host", "-h", "-n", sshd.host, f"{host_key}.pub"]
    subprocess.run(sign, check=True, capture_output=True)
    sshd.reconfigure({"HostCertificate": f"{host_key}-cert.pub"})
    with Client(sshd, tmp_path, sshd.fingerprint) as client:
        client.let_in()


def test_a_server_that_is_not_there_may_come(sshd: Sshd, tmp_path: Path) -> None:
    with Client(sshd, tmp_path, sshd.fingerprint) as client:
        sshd.stop()
        fault = client.refused().fault
        assert fault.kind is FaultKind.REFUSED
        assert "Connection refused" in fault.message
        sshd.start()
        client.let_in()


def _logged_in(server: Sshd, times: int) -> bool:
    return connections(server)[1] == times


def test_agents_behind_one_address_make_no_connection_without_a_login(tmp_path: Path) -> None:
    """Field cases 9.1 and 9.2: sshd (PerSourcePenalties) shuts an address out that connects without logging in."""
    with laboratory(tmp_path) as lab:
        pins = {"BETA9_SSH_HOST_KEY_FINGERPRINT": f"{OTHER},{lab.sshd.fingerprint}"}
        agents = [lab.agent(None, BETA9_SSH_KNOWN_HOSTS_FILE="", **pins) for _ in range(3)]
        for agent in agents:
            agent.start()
        for agent in agents:
            agent.wait_back()
        assert connections(lab.sshd) == (6, 6)
        for kills in range(1, 6):
            os.kill(agents[0].ssh_pids()["api"], signal.SIGKILL)
            wait_for("the next login", functools.partial(_logged_in, lab.sshd, 6 + kills))
            agents[0].wait_back()
        assert connections(lab.sshd) == (11, 11)
