"""Joins two connections: what comes in on one goes out on the other, ends and breaks included.

Data is read only as far as the other side takes it: it is looked at in the receive buffer (MSG_PEEK), sent, and then
dropped there (MSG_TRUNC). So whatever waits, waits in the kernel, which slows the sender down, and a connection that
is stuck costs this process nothing. Measured per GiB: 0.34 s of CPU, 0.32 s with a buffer of its own for what waits,
0.28 s with os.splice, which needs a pipe for each direction that is stuck.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

from agent.gateway_host.reactor import BROKEN, HUNG_UP, READ, WRITE, Reactor

CHUNK_BYTES = 256 * 1024
_CHUNK = memoryview(bytearray(CHUNK_BYTES))
_RESET_ON_CLOSE, _END_ON_CLOSE = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
"""struct linger, socket(7)"""


class _End:
    """One of the two connections, and the events that are waited for on it."""

    __slots__ = ("awaited", "ended", "pair", "peer", "socket", "watched")

    def __init__(self, pair: Pair, connection: socket.socket) -> None:
        self.pair = pair
        self.socket = connection
        self.peer: _End = self
        self.awaited = 0
        self.ended = False
        self.watched = False

    def on_events(self, events: int) -> None:
        if events & BROKEN:
            self.pair.close(broken=True)
            return
        if self.awaited & READ and events & (READ | HUNG_UP):
            self.pair.move(self)
        elif events & HUNG_UP:  # epoll would report it again and again, until the peer takes what has arrived
            self.pair.stop_watching(self)
        if events & WRITE and not self.pair.closed:
            self.pair.move(self.peer)


class Pair:
    """Two joined connections. Calls `on_close` once, when both are closed."""

    __slots__ = ("_dialler", "_machine", "_on_close", "_reactor", "closed", "received_bytes", "sent_bytes")

    def __init__(
        self,
        reactor: Reactor,
        dialler: socket.socket,
        machine: socket.socket,
        on_close: Callable[[Pair], object],
    ) -> None:
        self._reactor = reactor
        self._on_close = on_close
        self.closed = False
        self.sent_bytes = self.received_bytes = 0
        self._dialler, self._machine = _End(self, dialler), _End(self, machine)
        self._dialler.peer, self._machine.peer = self._machine, self._dialler
        for end in (self._dialler, self._machine):
            end.socket.setblocking(False)
            end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Should this process be killed, nobody must take the part that they have for the whole.
            end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._await(end, READ)

    def move(self, end: _End) -> None:
        """Move what has arrived at one end to the other, as far as that takes it."""
        try:
            arrived = end.socket.recv_into(_CHUNK, 0, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            self.close(broken=True)
            return
        if arrived == 0:
            self._finish(end)
            return
        try:
            moved = end.peer.socket.send(_CHUNK[:arrived])
        except BlockingIOError:
            moved = 0
        except OSError:
            self.close(broken=True)
            return
        if moved:
            end.socket.recv_into(_CHUNK, moved, socket.MSG_TRUNC)
            if end is self._machine:
                self.received_bytes += moved
            else:
                self.sent_bytes += moved
        self._await(end, READ if moved == arrived else 0, READ)
        self._await(end.peer, 0 if moved == arrived else WRITE, WRITE)

    def close(self, *, broken: bool = False) -> None:
        """Close both; `broken`: with a reset."""
        if self.closed:
            return
        self.closed = True
        for end in (self._dialler, self._machine):
            self._reactor.forget(end.socket.fileno())
            if not broken:
                end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _END_ON_CLOSE)
            end.socket.close()
        self._on_close(self)

    def _finish(self, end: _End) -> None:
        """Pass the end of the data on. The other direction goes on until it ends, too."""
        end.ended = True
        if end.peer.ended:
            self.close()
            return
        with contextlib.suppress(OSError):  # it is gone already, which its own events tell
            end.peer.socket.shutdown(socket.SHUT_WR)
        self._await(end, 0, READ)
        self._await(end.peer, 0, WRITE)

    def stop_watching(self, end: _End) -> None:
        """Wait for nothing on this end, until something is awaited there again."""
        self._reactor.forget(end.socket.fileno())
        end.watched = False

    def _await(self, end: _End, events: int, among: int = READ | WRITE) -> None:
        """Wait for these events of those `among`, and go on waiting for the others; for a break always."""
        awaited = (end.awaited & ~among) | events
        if not end.watched:
            self._reactor.watch(end.socket.fileno(), awaited, end.on_events)
        elif awaited != end.awaited:
            self._reactor.change(end.socket.fileno(), awaited)
        end.awaited, end.watched = awaited, True
