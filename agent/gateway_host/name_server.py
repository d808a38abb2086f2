"""The DNS server for machines' names, by UDP and TCP. It is asked by the host's own resolver, for one domain.

It serves names from what listens on this host, and dials nobody. Names that are not in its domain are refused, so that
a resolver that is set up wrongly asks elsewhere.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from agent.core.policy import NamesPolicy
from agent.core.relay.dns_messages import ANY, IN, UDP_BYTES, A, Code, Query, read_query, reply
from agent.core.relay.names import Listener, NamesSettings, as_dialled, current_address, machine_of, sightings
from agent.core.relay.zone import Pods
from agent.errors import SettingsError, TransientError
from agent.gateway_host.listeners import listeners
from agent.gateway_host.reactor import READ, Reactor
from agent.observability.logs import get_logger

_AT_ONCE = 64
"""Queries answered before the relay's other work has its turn."""
_CONNECTIONS = 64
_LENGTH_BYTES = 2


@dataclass
class _Connection:
    socket: socket.socket
    since_s: float
    received: bytearray = field(default_factory=bytearray)


class Names:
    """Machines' names and current addresses. `is_silent`: the relay is not answered at this address."""

    def __init__(self, domain: str, policy: NamesPolicy, is_silent: Callable[[str], bool]) -> None:
        self._domain, self.policy, self._is_silent = domain, policy, is_silent
        self._seen: dict[Listener, float] = {}
        self._looked_at_s = float("-inf")

    def look_regularly(self, reactor: Reactor) -> None:
        """Note who listens, again and again."""
        self.look()
        reactor.later(self.policy.look_interval_s, lambda: self.look_regularly(reactor))

    def look(self) -> None:
        """Note who listens now, unless that was done a moment ago."""
        now_s = monotonic()
        if now_s - self._looked_at_s < self.policy.look_fresh_s:
            return
        self._looked_at_s = now_s
        with contextlib.suppress(TransientError):  # no memory for a moment: go on with what is known
            self._seen = sightings(self._seen, listeners(), now_s)

    def answer(self, query: Query, pods: Pods | None) -> bytes:
        """Return the answer to a query."""
        if not query.is_standard:
            return reply(query, Code.NOT_IMPLEMENTED)
        in_domain = query.name == self._domain or query.name.endswith(f".{self._domain}")
        if not in_domain or query.record_class not in {IN, ANY}:
            return reply(query, Code.REFUSED)
        if query.name == self._domain:
            return reply(query, Code.NO_ERROR)
        machine_id = machine_of(query.name, self._domain)
        self.look()
        address = current_address(machine_id, self._seen, self._is_silent) if machine_id else None
        if address is None:
            return reply(query, Code.NO_SUCH_NAME)
        if query.kind not in {A, ANY}:
            return reply(query, Code.NO_ERROR)
        return reply(query, Code.NO_ERROR, address=as_dialled(address, pods), ttl_s=self.policy.ttl_s)


class NameServer:
    """Answers at one address and port. `pods`: who asks there dials machines in the range of gateway pods."""

    def __init__(
        self, reactor: Reactor, names: Names, address: tuple[str, int], pods: Pods | None = None
    ) -> None:
        """Raises: SettingsError if the address cannot be bound."""
        self._reactor, self._names, self._pods = reactor, names, pods
        self._connections: dict[int, _Connection] = {}
        self._tcp, self._udp = _bound(address)
        self.port = int(self._tcp.getsockname()[1])
        for each, callback in ((self._udp, self._on_datagrams), (self._tcp, self._on_connections)):
            each.setblocking(False)
            reactor.watch(each.fileno(), READ, callback)

    def close(self) -> None:
        """Stop answering."""
        for connection in list(self._connections.values()):
            self._end(connection)
        for each in (self._udp, self._tcp):
            self._reactor.forget(each.fileno())
            each.close()

    def _on_datagrams(self, _: int) -> None:
        for _ in range(_AT_ONCE):
            try:
                message, client = self._udp.recvfrom(UDP_BYTES)
            except OSError:  # nothing more, or an earlier answer found its port closed
                return
            query = read_query(message)
            if query is not None:
                with contextlib.suppress(OSError):  # the client is gone
                    self._udp.sendto(self._names.answer(query, self._pods), client)

    def _on_connections(self, _: int) -> None:
        try:
            accepted, _ = self._tcp.accept()
        except OSError:  # the client is gone, or no descriptor is free
            return
        if len(self._connections) >= _CONNECTIONS:
            self._end(min(self._connections.values(), key=lambda each: each.since_s))
        accepted.setblocking(False)
        connection = _Connection(accepted, monotonic())
        self._connections[accepted.fileno()] = connection
        self._reactor.watch(accepted.fileno(), READ, lambda _: self._on_data(connection))
        self._reactor.later(self._names.policy.connection_s, lambda: self._end(connection))

    def _on_data(self, connection: _Connection) -> None:
        """Answer the queries that are complete (RFC 1035, 4.2.2: its length precedes each)."""
        try:
            received = connection.socket.recv(UDP_BYTES)
            connection.received += received
            going_on = bool(received) and self._answer_all(connection)
        except OSError:
            going_on = False
        if not going_on:
            self._end(connection)

    def _answer_all(self, connection: _Connection) -> bool:
        """Answer the queries that have arrived; return False if this client deserves no further answer."""
        received = connection.received
        while len(received) >= _LENGTH_BYTES:
            length = int.from_bytes(received[:_LENGTH_BYTES], "big")
            if length > UDP_BYTES:
                return False
            end = _LENGTH_BYTES + length
            if len(received) < end:
                break
            query = read_query(bytes(received[_LENGTH_BYTES:end]))
            if query is None:
                return False
            answer = self._names.answer(query, self._pods)
            framed = len(answer).to_bytes(_LENGTH_BYTES, "big") + answer
            if connection.socket.send(framed) < len(framed):  # it does not read its answers
                return False
            del received[:end]
        return True

    def _end(self, connection: _Connection) -> None:
        descriptor = connection.socket.fileno()
        if self._connections.get(descriptor) is connection:
            del self._connections[descriptor]
            self._reactor.forget(descriptor)
            connection.socket.close()


class NameServers:
    """The name servers of all places. One whose address is taken, or not there yet, is tried again and again."""

    def __init__(
        self,
        reactor: Reactor,
        settings: NamesSettings | None,
        is_silent: Callable[[str], bool],
        policy: NamesPolicy | None = None,
    ) -> None:
        self._reactor, self._policy = reactor, policy or NamesPolicy()
        self._servers: list[NameServer] = []
        self._missing = list(settings.places) if settings else []
        self._reported: set[str] = set()
        if settings:
            self._names = Names(settings.domain, self._policy, is_silent)
            self._names.look_regularly(reactor)
            self._start()

    def close(self) -> None:
        """Stop answering."""
        for server in self._servers:
            server.close()

    def _start(self) -> None:
        self._missing = [place for place in self._missing if not self._serve(*place)]
        if self._missing:
            self._reactor.later(self._policy.bind_retry_s, self._start)

    def _serve(self, address: tuple[str, int], pods: Pods | None) -> bool:
        """Return whether it answers there."""
        try:
            self._servers.append(NameServer(self._reactor, self._names, address, pods))
        except SettingsError as error:
            if str(error) not in self._reported:
                self._reported.add(str(error))
                get_logger().warning("relay_names_failed", reason=str(error))
            return False
        return True


def _bound(address: tuple[str, int]) -> tuple[socket.socket, socket.socket]:
    """Return a TCP and a UDP socket at the same address and port. Raises: SettingsError."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        tcp = socket.create_server(address, backlog=_CONNECTIONS)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            raise
    except OSError as error:
        udp.close()
        raise SettingsError(
            f"cannot answer DNS at {address[0]}:{address[1]} ({error.strerror}); choose another --names-address,"
            " or stop what has it"
        ) from error
    return tcp, udp
