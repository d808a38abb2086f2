"""What a key may connect to through the throw-away sshd, with the real ssh client."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.core.tunnel.addresses import candidates
from agent.demo.sshd.program import free_port
from tests.integration.ssh_client import (
    DEADLINE_S,
    Ssh,
    greeting_from,
    listener,
    refusal,
    reverse_forward,
    wait_until,
)
from tests.sshd import Sshd


def test_only_the_target_can_be_reached(server: Sshd, machine_id: str) -> None:
    with listener(b"gateway") as gateway, listener(b"other") as other:
        server.authorize(key_line(server.public_key(), Grant((machine_id,), (f"localhost:{gateway}",))))
        ports = [free_port("127.0.0.1") for _ in range(3)]
        targets = (f"localhost:{gateway}", f"localhost:{other}", f"127.0.0.1:{gateway}")
        forwards = [
            part
            for port, target in zip(ports, targets, strict=True)
            for part in ("-L", f"127.0.0.1:{port}:{target}")
        ]
        with Ssh(server, *forwards) as client:
            wait_until(lambda: greeting_from("127.0.0.1", ports[0]) == b"gateway", "the target")
            assert greeting_from("127.0.0.1", ports[1]) == b""
            assert greeting_from("127.0.0.1", ports[2]) == b"", (
                "sshd compares host names as text: another spelling is refused"
            )
            refusals = [
                line for line in client.stderr().splitlines() if "administratively prohibited" in line
            ]
            assert len(refusals) == 2
            assert client.running(), "a refused target must not end the tunnel"


@pytest.mark.parametrize("key_of", ["a machine's", "a pool's"])
def test_the_reverse_path_can_be_probed_from_the_machine(server: Sshd, machine_id: str, key_of: str) -> None:
    server.authorize(key_line(server.public_key(), Grant(() if key_of == "a pool's" else (machine_id,))))
    address, probe = candidates(machine_id)[3], free_port("127.0.0.1")
    with (
        listener(b"k3s") as port,
        Ssh(server, *reverse_forward(address, port), "-L", f"{probe}:{address}:6443"),
    ):
        wait_until(lambda: greeting_from("127.0.0.1", probe) == b"k3s", "the round trip")


def test_permitopen_takes_no_patterns(server: Sshd, machine_id: str) -> None:
    """The reason why a pool's key has `permitopen="*:6443"`: permitopen takes 127.64.* as a literal host name."""
    address, probe = candidates(machine_id)[0], free_port("127.0.0.1")
    pattern = f"{address.rsplit('.', 2)[0]}.*"
    server.authorize(
        f'restrict,port-forwarding,permitopen="{pattern}:6443",permitlisten="{pattern}:6443" {server.public_key()}'
    )
    with (
        listener(b"k3s") as port,
        Ssh(server, *reverse_forward(address, port), "-L", f"{probe}:{address}:6443") as client,
    ):
        wait_until(lambda: greeting_from(address, 6443) == b"k3s", "the address, which permitlisten allows")
        assert greeting_from("127.0.0.1", probe) == b""
        assert "administratively prohibited" in client.stderr()


def test_unix_sockets_are_forwarded_neither_way(server: Sshd) -> None:
    local, remote = server.directory / "local", server.directory / "remote"
    assert "remote port forwarding failed" in refusal(server, "-R", f"{remote}:127.0.0.1:9")
    with Ssh(server, "-L", f"{local}:{remote}") as client:
        wait_until(local.exists, "the local socket")
        subprocess.run([sys.executable, "-c", _CONNECT_UNIX, str(local)], check=True, timeout=DEADLINE_S)
        assert "open failed" in client.stderr()


_CONNECT_UNIX = "import socket,sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"
