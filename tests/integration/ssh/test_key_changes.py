"""Keys, host keys and certificates of the throw-away sshd: revoked, rotated and signed."""

from __future__ import annotations

import secrets
import subprocess

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.core.tunnel.addresses import candidates
from tests.integration.ssh_client import (
    DEADLINE_S,
    Ssh,
    greeting_from,
    listener,
    recorded,
    refusal,
    reverse_forward,
    wait_until,
)
from tests.sshd import Sshd


def test_a_revoked_key_is_refused_at_the_next_login_and_its_session_goes_on(
    server: Sshd, machine_id: str
) -> None:
    with Ssh(server) as client:
        wait_until(lambda: "Starting session" in server.log(), "the session")
        server.authorize()
        stderr = refusal(server).replace(server.user, "root")
        assert stderr == recorded("key not accepted")
        assert client.running()
    server.authorize(key_line(server.public_key(), Grant((machine_id,))))
    with Ssh(server):
        wait_until(lambda: server.log().count("Starting session") == 2, "a session with the restored key")


def test_a_rotated_host_key_is_refused_until_it_is_pinned(server: Sshd) -> None:
    pinned = server.directory / "pinned"
    pinned.write_text(server.known_hosts)
    server.rotate_host_key()
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in refusal(server, known_hosts=pinned)
    with Ssh(server):
        wait_until(lambda: "Starting session" in server.log(), "a session under the new key")


def test_a_second_host_key_disturbs_nobody_who_has_pinned_the_first(server: Sshd) -> None:
    pinned = server.directory / "pinned"
    pinned.write_text(server.known_hosts)
    server.add_host_key("ecdsa")
    assert len(server.known_hosts.splitlines()) == 2
    with Ssh(server, known_hosts=pinned):
        wait_until(lambda: "Starting session" in server.log(), "a session")


def test_a_user_certificate_is_held_to_the_line_of_its_authority(server: Sshd, machine_id: str) -> None:
    authority, key = server.make_key("user_ca"), server.make_key("machine_key")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "m", "-n", server.user, f"{key}.pub"]
    subprocess.run(sign, check=True, timeout=DEADLINE_S)
    server.authorize(key_line(server.public_key(authority), Grant((machine_id,)), cert_authority=True))
    address, other = candidates(machine_id)[0], candidates(secrets.token_hex(4))[0]
    assert "remote port forwarding failed" in refusal(server, *reverse_forward(other, 9), key=key)
    with listener(b"k3s") as port, Ssh(server, *reverse_forward(address, port), key=key):
        wait_until(lambda: greeting_from(address, 6443) == b"k3s", "the address to answer")


def test_a_host_certificate_is_accepted_by_who_pins_its_authority(server: Sshd) -> None:
    authority = server.make_key("host_ca")
    sign = ["ssh-keygen", "-q", "-h", "-s", str(authority), "-I", "h", "-n", server.host]
    subprocess.run([*sign, f"{server.directory}/host_key.pub"], check=True, timeout=DEADLINE_S)
    server.reconfigure({"HostCertificate": f"{server.directory}/host_key-cert.pub"})
    pinned = server.directory / "pinned"
    pinned.write_text(f"@cert-authority * {server.public_key(authority)}\n")
    with Ssh(server, known_hosts=pinned):
        wait_until(lambda: "Starting session" in server.log(), "a session")
