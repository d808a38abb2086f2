"""The relay: takes the gateway's dials to machines' addresses to the machines, through the SOCKS that each offers.

It has one loop (reactor.py), and two threads that never wait for it: one keeps the packet filter's rules in place, one
serves metrics. Order of a start: listener, queue, rules; so a dial never meets rules that lead nowhere.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from agent.core.policy import RelayPolicy
from agent.core.relay.names import NamesSettings
from agent.core.relay.rules import RuleSettings
from agent.core.relay.zone import machine_address
from agent.errors import AgentError, SettingsError
from agent.gateway_host.dialling import Dialler
from agent.gateway_host.name_server import NameServers
from agent.gateway_host.nfqueue import Queue
from agent.gateway_host.packet_filter import PacketFilter
from agent.gateway_host.reactor import READ, Reactor
from agent.gateway_host.splicing import Pair
from agent.gateway_host.tally import Journal, Tally
from agent.observability.logs import get_logger
from agent.observability.status_server import StatusServer

HAIRPIN = IPv4Address("198.18.0.2")
_BACKLOG = 4096
_ACCEPTED_AT_ONCE = 64
_SPARE_DESCRIPTORS = 64
"""For what is no connection: the loop's own, the metrics', the packet filter's commands."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class RelaySettings:
    """What the relay is started with. `target`: what a machine's SOCKS leads to, its side of the hairpin."""

    rules: RuleSettings
    kind: str | None = None
    target: IPv4Address = HAIRPIN
    metrics_addr: str = ""
    names: NamesSettings | None = None
    policy: RelayPolicy = field(default_factory=RelayPolicy)


class Relay:
    """The running relay. Raises: SettingsError if its port or queue cannot be had."""

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._log = get_logger()
        self._tally = Tally()
        self._pairs: set[Pair] = set()
        self._connections_max = _connections_max()
        self._listener = _transparent_listener(settings.rules.port)
        self._queue = Queue(settings.rules.queue)
        self._reactor = Reactor()
        self._dialler = Dialler(
            reactor=self._reactor,
            queue=self._queue,
            target=settings.target,
            pods=settings.rules.pods,
            policy=settings.policy,
            tally=self._tally,
            journal=Journal(time.monotonic),
            has_room=self._has_room,
        )
        self._reactor.watch(self._listener.fileno(), READ, self._on_connections)
        self._name_servers = NameServers(self._reactor, settings.names, self._dialler.is_silent)
        self._ending = threading.Event()

    def run(self) -> None:
        """Set the rules and relay until SIGTERM or SIGINT. The rules stay: without a relay they refuse every dial."""
        rules = PacketFilter(self._settings.rules, self._settings.kind, self._settings.policy)
        rules.apply()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._reactor.stop())
        keeper = threading.Thread(target=self._keep_rules, args=(rules,), name="rules", daemon=True)
        keeper.start()
        server = self._serve_metrics()
        self._log.info("relay_started", packet_filter=rules.kind, connections_max=self._connections_max)
        self._reactor.run()
        self._ending.set()
        if server is not None:
            server.stop()
        self._name_servers.close()
        self._dialler.close()
        self._queue.close()
        for pair in list(self._pairs):
            pair.close(broken=True)
        self._log.info("relay_stopped")

    # --- Connections -------------------------------------------------------------------------------------

    def _on_connections(self, _events: int) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _peer = self._listener.accept()
            except OSError:  # none is left, or it has gone again
                return
            address, port = connection.getsockname()[:2]
            stream = self._dialler.claim(address, port) if self._is_dialled(address) else None
            if stream is None:  # too late, or somebody connected to the relay's own port
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                connection.close()
                continue
            self._pairs.add(Pair(self._reactor, connection, stream, self._on_closed))
            self._tally.open_connections = len(self._pairs)

    def _is_dialled(self, address: str) -> bool:
        return machine_address(address, self._settings.rules.pods) is not None

    def _on_closed(self, pair: Pair) -> None:
        self._pairs.discard(pair)
        self._tally.open_connections = len(self._pairs)
        self._tally.sent_bytes += pair.sent_bytes
        self._tally.received_bytes += pair.received_bytes

    def _has_room(self) -> bool:
        return len(self._pairs) + self._tally.waiting < self._connections_max

    # --- Threads -----------------------------------------------------------------------------------------

    def _keep_rules(self, rules: PacketFilter) -> None:
        while not self._ending.wait(self._settings.policy.rules_interval_s):
            try:
                if rules.in_place():
                    continue
                rules.apply()
            except AgentError as error:  # said by the next round, too, until it is well
                self._log.warning("relay_rules_failed", reason=str(error))
            else:
                self._tally.rules_restored += 1
                self._log.warning("relay_rules_restored", packet_filter=rules.kind)

    def _serve_metrics(self) -> StatusServer | None:
        if not self._settings.metrics_addr:
            return None

        def serving() -> bool:
            return not self._ending.is_set()

        server = StatusServer(
            self._settings.metrics_addr,
            self._status,
            serving,
            serving,
            lambda _status: self._tally.metrics().encode(),
        )
        problem = server.start()
        if problem is not None:
            self._log.warning("status_server", reason=problem)
        return server

    def _status(self) -> dict[str, object]:
        return {"connections": self._tally.open_connections, "connections_max": self._connections_max}


def _transparent_listener(port: int) -> socket.socket:
    """Return the socket that the rules hand dials to; its connections have the address and port that were dialled."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
    except PermissionError as error:
        listener.close()
        raise SettingsError(
            "the relay lacks CAP_NET_ADMIN; start it by its systemd unit, which grants this"
        ) from error
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on 127.0.0.1:{port} ({error}); choose another --port, or stop what has it"
        ) from error
    listener.setblocking(False)
    return listener


def _connections_max() -> int:
    """Raise the limit of open files as far as it goes, and return how many connections that allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (soft - _SPARE_DESCRIPTORS) // 2)
