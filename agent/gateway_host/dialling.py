"""Dials to machines: each waits in the queue until its machine has answered, then goes on or is refused.

An opened stream waits for the dialler's connection, which arrives at the relay's listener a moment later. Streams to
one address and port are alike until something was sent on them, so any of them serves any of their diallers.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Address
from time import monotonic

from agent.core.policy import RelayPolicy
from agent.core.relay.refusals import Refusal
from agent.core.relay.rules import OPEN
from agent.core.relay.socks import REPLY_BYTES, Answer, connect_request, read_answer
from agent.core.relay.zone import SOCKS_PORT, Pods, machine_address
from agent.gateway_host.nfqueue import ACCEPT, DROP, REPEAT, Queue, Syn
from agent.gateway_host.reactor import READ, WRITE, Reactor
from agent.gateway_host.silences import Silences
from agent.gateway_host.tally import Journal, Tally


class _Dial:
    """One dial while it waits."""

    __slots__ = ("address", "answer", "began_s", "direct", "request", "stream", "syn")

    def __init__(self, syn: Syn, address: str) -> None:
        self.syn = syn
        self.address = address
        self.began_s = monotonic()
        self.stream = socket.socket()
        self.direct = False
        self.request = b""
        self.answer = b""


class Dialler:
    """Answers the queue's packets. `claim` hands the opened streams out; `has_room` says whether one more may be."""

    def __init__(  # noqa: PLR0913 - the parts of the relay that a dial touches
        self,
        *,
        reactor: Reactor,
        queue: Queue,
        target: IPv4Address,
        pods: Pods | None,
        policy: RelayPolicy,
        tally: Tally,
        journal: Journal,
        has_room: Callable[[], bool],
    ) -> None:
        self._reactor, self._queue, self._target, self._pods = reactor, queue, target, pods
        self._policy, self._tally, self._journal, self._has_room = policy, tally, journal, has_room
        self._dials: dict[tuple[str, int, str, int, int], _Dial] = {}
        self._opened: dict[tuple[str, int], deque[socket.socket]] = {}
        self._silences = Silences(reactor, target, policy, tally, journal)
        reactor.watch(queue.fileno(), READ, self._on_packets)

    def claim(self, address: str, port: int) -> socket.socket | None:
        """Return the stream that was opened for a dial to this address and port."""
        waiting = self._opened.get((address, port))
        if not waiting:
            return None
        stream = waiting.popleft()
        if not waiting:
            del self._opened[address, port]
        return stream

    def is_silent(self, address: str) -> bool:
        """Return whether the machine at this address did not answer the last time."""
        return self._silences.is_silent(address)

    def close(self) -> None:
        """Refuse every dial that waits."""
        for dial in list(self._dials.values()):
            self._refuse(dial, Refusal.AWAY)

    # --- A dial ------------------------------------------------------------------------------------------

    def _on_packets(self, _events: int) -> None:
        for syn in self._queue.packets():
            address = machine_address(syn.destination, self._pods)
            if syn.connection in self._dials:  # the first one will be answered
                self._tally.retransmitted += 1
                self._queue.decide(syn.packet_id, DROP)
            elif address is None:
                self._queue.decide(syn.packet_id, ACCEPT)
            elif not self._silences.allow(address, syn.destination_port):
                self._count_refusal(syn, address, Refusal.PAUSED)
            elif not self._has_room():
                self._count_refusal(syn, address, Refusal.FULL)
            else:
                self._try(syn, address)

    def _try(self, syn: Syn, address: str) -> None:
        try:
            dial = _Dial(syn, address)
        except OSError:  # the host has no descriptor left
            self._count_refusal(syn, address, Refusal.FULL)
            return
        self._dials[dial.syn.connection] = dial
        self._tally.waiting += 1
        self._reactor.later(self._policy.doubt_s, lambda: self._on_doubt(dial))
        self._reactor.later(self._policy.answer_timeout_s, lambda: self._on_timeout(dial))
        # What listens on the machine's own address cannot be reached from a pod's network: the relay goes there itself.
        dial.direct = dial.address != dial.syn.destination
        self._connect(dial)

    def _connect(self, dial: _Dial) -> None:
        port = dial.syn.destination_port if dial.direct else SOCKS_PORT
        dial.request = b"" if dial.direct else connect_request(self._target, dial.syn.destination_port)
        dial.stream.setblocking(False)
        dial.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        dial.stream.connect_ex((dial.address, port))  # a failure shows when it is used
        self._reactor.watch(dial.stream.fileno(), WRITE, lambda _: self._proceed(dial))
        if not dial.direct:
            self._proceed(dial)  # on this host the connection is usually up already

    def _proceed(self, dial: _Dial) -> None:
        if dial.direct:
            self._on_connected(dial, dial.stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            return
        try:
            if dial.request:
                dial.stream.send(dial.request)  # a few bytes into an empty buffer: all or nothing
                dial.request = b""
                self._reactor.change(dial.stream.fileno(), READ)
            received = dial.stream.recv(REPLY_BYTES - len(dial.answer))
        except BlockingIOError:
            return
        except OSError:
            self._refuse(dial, Refusal.AWAY if dial.request else Refusal.CLOSED)
            return
        dial.answer += received
        answer = read_answer(dial.answer, ended=not received)
        if answer is Answer.GRANTED:
            self._open(dial)
        elif answer is Answer.REFUSED:
            self._refuse(dial, Refusal.CLOSED)

    def _on_connected(self, dial: _Dial, error: int) -> None:
        if not error:
            self._open(dial)
            return
        self._drop(dial.stream)
        dial.direct = False
        try:
            dial.stream = socket.socket()
        except OSError:
            self._refuse(dial, Refusal.FULL)
            return
        self._connect(dial)

    def _open(self, dial: _Dial) -> None:
        self._reactor.forget(dial.stream.fileno())
        self._end(dial)
        self._silences.heard(dial.address, dial.syn.destination_port)
        key = (dial.syn.destination, dial.syn.destination_port)
        self._opened.setdefault(key, deque()).append(dial.stream)
        self._reactor.later(self._policy.accept_timeout_s, lambda: self._on_unclaimed(key, dial.stream))
        self._tally.opened += 1
        self._queue.decide(dial.syn.packet_id, REPEAT, OPEN)

    def _refuse(self, dial: _Dial, refusal: Refusal, *, keep_stream: bool = False) -> None:
        self._end(dial)
        if not keep_stream:
            self._drop(dial.stream)
        if refusal in {Refusal.AWAY, Refusal.CLOSED}:
            self._silences.heard(dial.address, dial.syn.destination_port)
        self._count_refusal(dial.syn, dial.address, refusal)

    def _count_refusal(self, syn: Syn, address: str, refusal: Refusal) -> None:
        self._queue.decide(syn.packet_id, ACCEPT)  # without a mark, which the rules reset
        self._tally.refused[refusal] += 1
        self._journal.refused(refusal, address, syn.destination_port)

    def _end(self, dial: _Dial) -> None:
        del self._dials[dial.syn.connection]
        self._tally.waiting -= 1
        self._tally.dial_seconds += monotonic() - dial.began_s

    def _on_unclaimed(self, key: tuple[str, int], stream: socket.socket) -> None:
        waiting = self._opened.get(key, ())
        if stream in waiting:
            self._opened[key].remove(stream)
            stream.close()
            self._tally.unclaimed += 1

    # --- No answer ---------------------------------------------------------------------------------------

    def _on_doubt(self, dial: _Dial) -> None:
        if self._waits(dial):
            self._silences.ask_again(dial.address, dial.began_s)

    def _on_timeout(self, dial: _Dial) -> None:
        if not self._waits(dial):
            return
        address, port, asked = dial.address, dial.syn.destination_port, not dial.request and not dial.direct
        whole = self._silences.begin(address, port, dial.began_s, dial.stream, asked=asked)
        self._refuse(dial, Refusal.SILENT, keep_stream=True)
        for other in list(self._dials.values()):
            if other.address == address and (whole or other.syn.destination_port == port):
                self._refuse(other, Refusal.SILENT)

    def _waits(self, dial: _Dial) -> bool:
        return self._dials.get(dial.syn.connection) is dial

    def _drop(self, stream: socket.socket) -> None:
        self._reactor.forget(stream.fileno())
        with contextlib.suppress(OSError):
            stream.close()
