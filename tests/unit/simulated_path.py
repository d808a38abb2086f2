"""The way from the gateway to a simulated machine (simulation.py): relay, reverse session, hairpin, k3s."""

from __future__ import annotations

from collections.abc import Callable

from agent.core.config import Config
from agent.core.effects import CheckHairpin, ProbeReverse
from agent.core.events import Answer, Event, HairpinChecked, Probe, ReverseProbed
from agent.core.hairpin.model import HairpinFault
from agent.core.tunnel.model import Purpose
from tests.unit.simulated import Faults, Session


class ReversePath:
    """The way back to the machine of a simulated world, which inherits from it."""

    config: Config
    faults: Faults
    sessions: dict[Purpose, Session]
    lingering: list[Session]
    lets_in: bool

    def later(self, seconds: float, event: Callable[[], Event | None]) -> None:
        """Queue an event."""
        raise NotImplementedError

    def _through(self, purpose: Purpose) -> bool:
        raise NotImplementedError

    def _check_hairpin(self, effect: CheckHairpin) -> Event:
        kind = self.faults.hairpin
        self.lets_in = effect.lets_in and kind is None
        is_missed = effect.tries_k3s and (self.faults.k3s_on_loopback or self.faults.k3s == "refuse")
        return HairpinChecked(
            effect.lets_in,
            HairpinFault(kind, kind.value) if kind else None,
            k3s_missed="not reached" if is_missed else None,
        )

    def _probe_reverse(self, effect: ProbeReverse) -> None:
        session = self.sessions.get(Purpose.REVERSE)
        address = self.config.addresses[effect.candidate % len(self.config.addresses)]
        held = any(s.address == address for s in self.lingering)
        silent = held or (session is not None and (session.stopped or self.faults.k3s == "hang"))
        any_port = session is not None and session.any_port
        is_relayed = not any_port or (
            self.lets_in and not self.faults.relay and not self.faults.k3s_on_loopback
        )
        if silent or not self._through(Purpose.API):
            probe = Probe(Answer.SILENT, effect.timeout_s)
        elif any_port and self.faults.relay == "gone" and self.faults.wildcard:
            probe = Probe(Answer.DENIED, 0.01)
        elif session is None or session.address != address or self.faults.k3s or not is_relayed:
            probe = Probe(Answer.CLOSED, 0.01)
        else:
            probe = Probe(Answer.ANSWERED, 0.01)
        self.later(probe.took_s, lambda: ReverseProbed(effect.generation, probe))
