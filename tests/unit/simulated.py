"""Parts of the simulated world (simulation.py): its faults, sessions and gateway entry, and the gateway's side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.core.config import Config
from agent.core.effects import CallGateway
from agent.core.events import CallEnded, Event
from agent.core.hairpin.model import HairpinFaultKind
from agent.core.machine_api.model import CallKind
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.state import AgentState
from agent.core.tunnel.model import Purpose

TTL_S = 300.0
SSHD_NOTICES_S = 12.0
SSH_NOTICES_S = 12.0
SYN_AGAIN_S = (1.0, 2.0)
"""The kernel asks again 1 s and 3 s after the first SYN, so an attempt under way finds a healed link."""


@dataclass
class Faults:
    """What is broken just now."""

    link: bool = False
    """Nothing gets through in either direction."""
    sshd: bool = False
    """Nobody listens on the SSH port, and sessions are gone."""
    auth: bool = False
    """sshd does not accept the key any more; sessions live on."""
    permit_open: bool = False
    """The key may not open the gateway's address, from the next login on."""
    gateway: str = ""
    """"", `refuse`, `hang`, `500`, `401`."""
    k3s: str = ""
    """"", `refuse`, `hang`."""
    hairpin: HairpinFaultKind | None = None
    """What keeps the machine from having a hairpin."""
    k3s_on_loopback: bool = False
    """k3s answers on this machine, and not by way of the hairpin."""
    relay: str = ""
    """"", `gone`, `frozen` (its path to this machine)."""
    no_1080: bool = False
    """sshd lets the key listen on 6443 alone."""
    wildcard: bool = False
    """The gateway's host has a k3s of its own, on port 6443 of all addresses."""
    reverse: bool = False
    """The reverse session is stopped on the gateway's side: its address is held and silent."""


@dataclass
class Entry:
    """The machine at the gateway."""

    status: str
    expires_at_s: float
    hostname: str
    cpu: int


@dataclass
class Session:
    """One ssh connection as sshd sees it."""

    generation: int
    address: str | None
    dead_since_s: float | None = None
    stopped: bool = False
    prohibited: bool = False
    any_port: bool = False


class GatewaySide:
    """The gateway of a simulated world, which inherits from it. It stands for the real one and its contract."""

    now_s: float
    state: AgentState
    config: Config
    faults: Faults
    entry: Entry | None
    sessions: dict[Purpose, Session]
    lingering: list[Session]
    open_calls: dict[int, CallKind]
    registrations: int
    lets_in: bool
    """Whether the hairpin lets connections to k3s through."""

    def later(self, seconds: float, event: Callable[[], Event | None]) -> None:
        """Queue an event."""
        raise NotImplementedError

    def _through(self, purpose: Purpose) -> bool:
        return purpose in self.sessions and not self.faults.link

    def _expire(self) -> None:
        if self.entry is not None and self.now_s >= self.entry.expires_at_s:
            self.entry = None
        self.lingering = [
            s
            for s in self.lingering
            if s.dead_since_s is not None and self.now_s < s.dead_since_s + SSHD_NOTICES_S and not s.stopped
        ]

    def _call(self, effect: CallGateway) -> None:
        # Whoever leaves waits for a keepalive, but not for its whole time limit (see going).
        waited_for = [
            k for k in self.open_calls.values() if not self.state.shutdown or k is not CallKind.KEEPALIVE
        ]
        assert not waited_for, f"{effect} while {self.open_calls} is open"
        self.open_calls[effect.call_id] = effect.kind
        self._check_body(effect)

        def answer() -> Event:
            self.open_calls.pop(effect.call_id)
            return CallEnded(effect.call_id, self._answer(effect))

        slow = self.faults.link or self.faults.gateway == "hang" or Purpose.API not in self.sessions
        self.later(effect.timeout_s if slow else 0.02, answer)

    def _check_body(self, effect: CallGateway) -> None:
        """What is sent is of this machine, with the types that the gateway takes, and no more than it has."""
        body = effect.body
        if effect.kind is CallKind.CHECK:
            assert body["machine_id"] == ""
            return
        assert (body["machine_id"], body["pool_name"]) == (self.config.machine_id, self.config.pool_name)
        if effect.kind is CallKind.KEEPALIVE:
            metrics = body["metrics"]
            assert type(metrics["total_cpu_available"]) is type(metrics["free_gpu_count"]) is int
            assert 0 <= metrics["total_cpu_available"] <= 8000
        else:
            assert all(type(value) is str for value in body.values())
            is_nothing = effect.kind is CallKind.FAREWELL or not self.state.offer.offered
            assert (body["cpu"], body["memory"]) == ("0m", "0Mi") or not is_nothing

    def _answer(self, effect: CallGateway) -> Outcome:
        if not self._through(Purpose.API) or self.faults.gateway in {"hang", "refuse"}:
            return Outcome(OutcomeKind.NO_ANSWER, "no answer")
        if self.faults.gateway:
            kinds = {"500": OutcomeKind.GATEWAY_ERROR, "401": OutcomeKind.UNAUTHORIZED}
            return Outcome(kinds[self.faults.gateway], self.faults.gateway)
        self._expire()
        if effect.kind is CallKind.CHECK:
            return Outcome(OutcomeKind.OK)
        if effect.kind is CallKind.KEEPALIVE:
            if self.entry is None:
                return Outcome(OutcomeKind.MACHINE_NOT_FOUND, "machine not found")
            self.entry.status, self.entry.expires_at_s = "ready", self.now_s + TTL_S
            return Outcome(OutcomeKind.OK, ttl_s=TTL_S)
        cpu = int(effect.body["cpu"].removesuffix("m"))
        self.entry = Entry("registered", self.now_s + TTL_S, effect.body["hostname"], cpu)
        self.registrations += 1
        return Outcome(OutcomeKind.OK, ttl_s=TTL_S, gateway_config=True)

    def would_place(self) -> bool:
        """Whether the gateway would start work here, and the dial would reach our k3s."""
        self._expire()
        return self.entry is not None and self.entry.status == "ready" and self.entry.cpu > 0

    def dial_hangs(self) -> bool:
        """Whether a dial at any of our addresses would hang and so stop the pool."""
        session = self.sessions.get(Purpose.REVERSE)
        is_open = session is not None and (self.lets_in or not session.any_port)
        return is_open and self.faults.k3s == "hang"
