"""Where a key may listen on the server: the reverse addresses of the throw-away sshd, with the real ssh client."""

from __future__ import annotations

import secrets

import pytest

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.core.tunnel.addresses import candidates
from agent.demo.sshd.program import free_port
from tests.integration.ssh_client import (
    Ssh,
    greeting_from,
    listener,
    recorded,
    refusal,
    reverse_forward,
    wait_until,
)
from tests.sshd import Sshd


def test_two_machines_have_their_k3s_on_addresses_of_their_own() -> None:
    ids = [secrets.token_hex(4), secrets.token_hex(4)]
    with Sshd() as server, listener(b"one") as one, listener(b"two") as two:
        keys = [server.make_key(f"key-{machine_id}") for machine_id in ids]
        server.authorize(
            *(key_line(server.public_key(key), Grant((i,))) for key, i in zip(keys, ids, strict=True))
        )
        first, second = (candidates(i)[0] for i in ids)
        with (
            Ssh(server, *reverse_forward(first, one), key=keys[0]),
            Ssh(server, *reverse_forward(second, two), key=keys[1]),
        ):
            wait_until(lambda: greeting_from(first, 6443) == b"one", "the first machine")
            wait_until(lambda: greeting_from(second, 6443) == b"two", "the second machine")


def test_the_address_of_another_machine_is_refused(server: Sshd) -> None:
    stderr = refusal(server, *reverse_forward(candidates(secrets.token_hex(4))[0], 9))
    assert stderr == recorded("remote bind not in permitlisten")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "*", "0.0.0.0", "", "localhost", "127.128.0.1", "127.63.9.9"]
)
@pytest.mark.parametrize("key_of", ["a machine's", "a pool's"])
def test_no_key_listens_outside_the_reserved_block(
    server: Sshd, machine_id: str, key_of: str, address: str
) -> None:
    server.authorize(key_line(server.public_key(), Grant(() if key_of == "a pool's" else (machine_id,))))
    assert "remote port forwarding failed" in refusal(server, *reverse_forward(address, 9))


@pytest.mark.parametrize("port", [0, 22, 6444])
def test_no_key_listens_on_another_port(server: Sshd, machine_id: str, port: int) -> None:
    stderr = refusal(server, "-R", f"{candidates(machine_id)[0]}:{port}:127.0.0.1:9")
    assert "remote port forwarding failed" in stderr


def test_a_pools_key_takes_any_free_address(server: Sshd) -> None:
    server.authorize(key_line(server.public_key(), Grant()))
    address = candidates(secrets.token_hex(4))[2]
    with listener(b"k3s") as port, Ssh(server, *reverse_forward(address, port)):
        wait_until(lambda: greeting_from(address, 6443) == b"k3s", "the address to answer")


def test_the_server_itself_holds_keys_without_options_to_the_reserved_block(server: Sshd) -> None:
    server.authorize(server.public_key())
    assert "remote port forwarding failed" in refusal(server, *reverse_forward("127.0.0.1", 9))


def test_an_address_that_is_taken_is_refused_and_the_next_one_is_had(server: Sshd, machine_id: str) -> None:
    first, second, *_ = candidates(machine_id)
    with listener(b"k3s") as port, Ssh(server, *reverse_forward(first, port)):
        wait_until(lambda: greeting_from(first, 6443), "the first address")
        assert refusal(server, *reverse_forward(first, port)) == recorded("remote bind taken")
        with Ssh(server, *reverse_forward(second, port)):
            wait_until(lambda: greeting_from(second, 6443) == b"k3s", "the second address")


def test_with_gateway_ports_no_the_address_is_silently_replaced_by_localhost(machine_id: str) -> None:
    """The reverse probe exists for this case: ssh prints nothing and reports success."""
    address, free = candidates(machine_id)[0], free_port("127.0.0.1")
    with Sshd(options={"GatewayPorts": "no", "PermitListen": None}) as server:
        server.authorize(f'restrict,port-forwarding,permitlisten="{address}:{free}" {server.public_key()}')
        with listener(b"k3s") as port, Ssh(server, "-R", f"{address}:{free}:127.0.0.1:{port}") as client:
            wait_until(lambda: greeting_from("127.0.0.1", free) == b"k3s", "the listener on localhost")
            assert greeting_from(address, free) is None
            assert client.running()
            assert client.stderr() == ""
