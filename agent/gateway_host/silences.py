"""Which machines, and which single ports of a machine, are not dialled because they did not answer.

A dial that is not answered may be the machine's doing (its ssh is frozen, its path is cut) or the port's alone (a
container's network is gone, and nothing refuses in its place). So halfway through the wait the machine is asked for a
port on which nothing listens: a machine that is well refuses that at once.

The unanswered stream stays open. What happens on it ends the pause: a late answer, or the end of sshd's session.
"""

from __future__ import annotations

import contextlib
import socket
from ipaddress import IPv4Address
from time import monotonic

from agent.core.policy import RelayPolicy
from agent.core.relay.silence import Silence, may_dial, silent_again
from agent.core.relay.socks import connect_request
from agent.core.relay.zone import SOCKS_PORT
from agent.gateway_host.reactor import READ, WRITE, Reactor
from agent.gateway_host.tally import Journal, Tally

_ALL_PORTS = 0
_UNUSED_PORT = 1
"""tcpmux, which nobody serves."""
_ANSWER_BYTES = 64

_Scope = tuple[str, int]
"""An address and a port, or `_ALL_PORTS`."""


class Silences:
    """The pauses in force. Used by the event loop alone."""

    def __init__(
        self, reactor: Reactor, target: IPv4Address, policy: RelayPolicy, tally: Tally, journal: Journal
    ) -> None:
        self._reactor, self._policy, self._tally, self._journal = reactor, policy, tally, journal
        self._question = connect_request(target, _UNUSED_PORT)
        self._pauses: dict[_Scope, Silence] = {}
        self._unanswered: dict[_Scope, socket.socket] = {}
        self._questions: dict[str, socket.socket] = {}
        self._heard_s: dict[str, float] = {}

    def allow(self, address: str, port: int) -> bool:
        """Return whether the machine may be asked for this port; if so, the dial decides, and no earlier stream."""
        scopes = ((address, _ALL_PORTS), (address, port))
        if not all(may_dial(self._pauses.get(scope), monotonic()) for scope in scopes):
            return False
        for scope in scopes:
            self._close(self._unanswered.pop(scope, None))
        return True

    def is_silent(self, address: str) -> bool:
        """Return whether this machine, not just a port of it, did not answer the last time."""
        return (address, _ALL_PORTS) in self._pauses

    def heard(self, address: str, port: int) -> None:
        """Note an answer of the machine about this port, whatever it was."""
        self._heard_s[address] = monotonic()
        self._close(self._questions.pop(address, None))
        for scope in ((address, _ALL_PORTS), (address, port)):
            self._end(scope)

    def ask_again(self, address: str, since_s: float) -> None:
        """Ask the machine for a port that it refuses, unless it has answered anything since then."""
        if address in self._questions or self._heard_s.get(address, 0.0) >= since_s:
            return
        try:
            stream = self._questions[address] = socket.socket()
        except OSError:  # the host has no descriptor left
            return
        stream.setblocking(False)
        stream.connect_ex((address, SOCKS_PORT))
        self._reactor.watch(stream.fileno(), WRITE, lambda events: self._on_question(address, stream, events))

    def begin(self, address: str, port: int, since_s: float, stream: socket.socket, *, asked: bool) -> bool:
        """Stop dialling after a time-out: this port, or the whole machine if it has answered nothing `since_s`.

        Keeps the stream of the dial that timed out; `asked` says whether its request was sent. Returns whether the
        whole machine is meant.
        """
        whole = self._heard_s.get(address, 0.0) < since_s
        scope = (address, _ALL_PORTS if whole else port)
        self._close(self._questions.pop(address, None))
        self._close(self._unanswered.pop(scope, None))
        pause = self._pauses[scope] = silent_again(self._pauses.get(scope), monotonic(), self._policy)
        self._unanswered[scope] = stream
        self._reactor.forget(stream.fileno())
        self._reactor.watch(stream.fileno(), READ if asked else READ | WRITE, lambda _: self._on_late(scope))
        self._tally.silent = len(self._pauses)
        self._journal.silent(address, port, pause.pause_s, whole_machine=whole)
        return whole

    def _on_question(self, address: str, stream: socket.socket, events: int) -> None:
        if events == WRITE:  # connected
            with contextlib.suppress(OSError):  # broken since, which is the next event
                stream.send(self._question)
            self._reactor.change(stream.fileno(), READ)
            return
        # Any end will do: the machine's refusal, or sshd's because it is not connected, which dials will meet as well.
        self._heard_s[address] = monotonic()
        self._close(self._questions.pop(address, None))

    def _on_late(self, scope: _Scope) -> None:
        self._close(self._unanswered.pop(scope, None))
        self._end(scope)

    def _end(self, scope: _Scope) -> None:
        if self._pauses.pop(scope, None) is not None:
            self._tally.silent = len(self._pauses)
            self._journal.back(scope[0], scope[1] or None)

    def _close(self, stream: socket.socket | None) -> None:
        if stream is not None:
            self._reactor.forget(stream.fileno())
            stream.close()
