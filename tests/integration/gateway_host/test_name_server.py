"""The resolver on the gateway's host: real sockets, and glibc's resolver as its client."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Network

import pytest

from agent.core.policy import NamesPolicy
from agent.core.relay.names import NamesSettings
from agent.core.relay.zone import Pods
from agent.core.tunnel.addresses import candidates
from agent.errors import SettingsError
from agent.gateway_host.name_server import Names, NameServer, NameServers
from agent.gateway_host.reactor import Reactor
from tests.integration.netns import HERE, Place, resolver, wire
from tests.integration.ssh_client import DEADLINE_S, wait_until

DOMAIN = "beta9.tailnet.example"
MACHINE = "1165a9b6"
NAME = f"machine-{MACHINE}.{DOMAIN}"
AWAY = f"machine-00000000.{DOMAIN}"
FIRST, SECOND, *_ = candidates(MACHINE)
A, AAAA, SOA = 1, 28, 6
NO_ERROR, NO_SUCH_NAME, NOT_IMPLEMENTED, REFUSED = 0, 3, 4, 5
ALWAYS_FRESH = NamesPolicy(look_fresh_s=0.0)
SOON = NamesPolicy(look_fresh_s=0.0, bind_retry_s=0.05)


@contextmanager
def serving(
    port: int = 0,
    place: Place = HERE,
    pods: Pods | None = None,
    is_silent: Callable[[str], bool] = lambda _: False,
) -> Iterator[int]:
    """Run the name server as the relay does, in its loop; yield its port."""
    reactor = Reactor()
    names = Names(DOMAIN, ALWAYS_FRESH, is_silent)
    with place.inside():
        server = NameServer(reactor, names, ("127.0.0.1", port), pods)

    def run() -> None:
        with place.inside():
            names.look_regularly(reactor)
            reactor.run()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield server.port
    finally:
        reactor.stop()
        thread.join()
        server.close()
        reactor.close()


@contextmanager
def listening(*addresses: str, port: int = 1080, place: Place = HERE) -> Iterator[None]:
    """Listen as sshd does for machines."""
    with ExitStack() as stack, place.inside():
        for address in addresses:
            stack.enter_context(socket.create_server((address, port)))
        yield


def query(name: str, kind: int = A, *, flags: int = 0x0100, record_class: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    return (
        struct.pack("!HHHHHH", 4711, flags, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, record_class)
    )


def read(answer: bytes) -> tuple[int, str | None]:
    """Return the code and the address of an answer."""
    number, flags, questions, answers, _, _ = struct.unpack_from("!HHHHHH", answer)
    assert (number, questions, flags & 0x8000) == (4711, 1, 0x8000)
    return flags & 0xF, socket.inet_ntoa(answer[-4:]) if answers else None


def ask(port: int, message: bytes, host: str = "127.0.0.1") -> tuple[int, str | None]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE_S)
        client.connect((host, port))
        client.send(message)
        return read(client.recv(512))


def framed(message: bytes) -> bytes:
    return struct.pack("!H", len(message)) + message


def read_framed(client: socket.socket) -> tuple[int, str | None]:
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        received = client.recv(1 if len(data) < 2 else 2 + int.from_bytes(data[:2], "big") - len(data))
        assert received, "the connection has ended"
        data += received
    return read(data[2:])


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (query(NAME), (NO_ERROR, FIRST)),
        (query(NAME.upper()), (NO_ERROR, FIRST)),
        (query(NAME, AAAA), (NO_ERROR, None)),
        (query(AWAY), (NO_SUCH_NAME, None)),
        (query(AWAY, AAAA), (NO_SUCH_NAME, None)),
        (query(f"other.{DOMAIN}"), (NO_SUCH_NAME, None)),
        (query(DOMAIN, SOA), (NO_ERROR, None)),
        (query("example.org"), (REFUSED, None)),
        (query(f"machine-{MACHINE}.other.example"), (REFUSED, None)),
        (query(f"x{DOMAIN}"), (REFUSED, None)),
        (query(""), (REFUSED, None)),
        (query(NAME, record_class=3), (REFUSED, None)),
        (query(NAME, flags=0x2000), (NOT_IMPLEMENTED, None)),
    ],
)
def test_it_answers_for_its_domain_and_refuses_the_rest(
    message: bytes, answer: tuple[int, str | None]
) -> None:
    with listening(FIRST), serving() as port:
        assert ask(port, message) == answer
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as client:
            client.sendall(framed(message))
            assert read_framed(client) == answer


@pytest.mark.parametrize("transport", ["", "\noptions use-vc"], ids=["udp", "tcp"])
def test_the_systems_resolver_finds_a_machine_and_soon_its_next_address(transport: str) -> None:
    with wire() as wired, ExitStack() as stack:
        place = wired.far
        stack.enter_context(serving(53, place))
        stack.enter_context(resolver(place, f"127.0.0.1{transport}"))

        def found() -> str:
            return place.run("getent", "ahostsv4", NAME).split()[0]

        with listening(FIRST, place=place):
            assert found() == FIRST
            with listening(SECOND, place=place):
                assert found() == SECOND, "the machine came back while its dead session was still held"
            assert found() == FIRST


def test_the_address_follows_the_machine_without_being_asked_meanwhile() -> None:
    """Numbers of sockets do not tell which came last; only who has looked before knows."""
    with serving() as port, ExitStack() as stack:
        dead = stack.enter_context(socket.create_server((FIRST, 1080)))
        assert ask(port, query(NAME)) == (NO_ERROR, FIRST)
        stack.enter_context(listening(SECOND, port=6443))
        wait_until(lambda: ask(port, query(NAME)) == (NO_ERROR, SECOND), "the second address")
        dead.close()
        assert ask(port, query(NAME)) == (NO_ERROR, SECOND)


def test_a_silent_address_is_passed_over_for_another() -> None:
    with listening(FIRST, SECOND):
        for silent, other in ((FIRST, SECOND), (SECOND, FIRST)):
            with serving(is_silent=lambda address, silent=silent: address == silent) as port:  # type: ignore[misc]
                assert ask(port, query(NAME)) == (NO_ERROR, other)


def test_gateway_pods_get_the_address_in_their_range() -> None:
    pods = Pods(IPv4Network("100.64.0.0/10"), IPv4Network("10.42.0.0/16"))
    with listening(FIRST), serving(pods=pods) as port:
        assert ask(port, query(NAME)) == (NO_ERROR, FIRST.replace("127.", "100.", 1))


def test_what_is_no_query_is_dropped_and_the_next_one_answered() -> None:
    with listening(FIRST), serving() as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE_S)
        client.connect(("127.0.0.1", port))
        answer_of_another_server = query(NAME, flags=0x8000)
        for message in (b"", b"\0" * 11, query(NAME)[:-1], b"\xff" * 600, answer_of_another_server):
            client.send(message)
        client.send(query(NAME))
        assert read(client.recv(512)) == (NO_ERROR, FIRST)


def test_tcp_takes_queries_in_pieces_and_several_at_once() -> None:
    with (
        listening(FIRST),
        serving() as port,
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as client,
    ):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        message = framed(query(NAME))
        for byte in message:
            client.send(bytes([byte]))
        assert read_framed(client) == (NO_ERROR, FIRST)
        client.sendall(message * 3)
        assert [read_framed(client) for _ in range(3)] == [(NO_ERROR, FIRST)] * 3


@pytest.mark.parametrize("data", [b"\xff\xff" + b"x" * 100, b"\0\0", framed(b"GET / HTTP/1.1")])
def test_tcp_hangs_up_on_what_is_no_query(data: bytes) -> None:
    with serving() as port, socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as client:
        client.sendall(data)
        with suppress(ConnectionResetError):  # it had not read everything
            assert client.recv(1) == b""


def test_idle_connections_do_not_keep_others_out() -> None:
    with listening(FIRST), serving() as port, ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S))
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S))
        client.sendall(framed(query(NAME)))
        assert read_framed(client) == (NO_ERROR, FIRST)


def test_a_port_that_is_taken_is_tried_again_and_holds_nothing_else_up() -> None:
    """A node's bridge, where pods ask, may come up after the relay."""
    reactor = Reactor()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()
        places = ((taken, None), (("127.0.0.9", taken[1]), None))
        servers = NameServers(reactor, NamesSettings(DOMAIN, places), lambda _: False, SOON)
    thread = threading.Thread(target=reactor.run)
    thread.start()
    try:
        with listening(FIRST):
            assert ask(taken[1], query(NAME), "127.0.0.9") == (NO_ERROR, FIRST)
            wait_until(lambda: answers(taken[1]), "the next try")
            assert ask(taken[1], query(NAME)) == (NO_ERROR, FIRST)
    finally:
        reactor.stop()
        thread.join()
        servers.close()
        reactor.close()


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()
        names = Names(DOMAIN, ALWAYS_FRESH, lambda _: False)
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{taken[1]}.*--names-address"):
            NameServer(Reactor(), names, taken)
