"""One agent that lives through any sequence of events (any_events.py), and what can be seen of it from outside."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from agent.core.config import Config
from agent.core.effects import CallGateway, Effect, Exit, StopLink
from agent.core.events import CallEnded, Event, KubeLoginsRead, KubeProbed, Tick
from agent.core.machine_api.model import CallKind
from agent.core.machine_api.wire import OutcomeKind
from agent.core.state import AgentState
from agent.core.step import step
from tests.unit.core.any_events import POLICY, BadReply, GoodReply, Move, answer


@dataclass
class InFlight:
    """A call in flight; the adapter ends it at `ends_at_s` at the latest."""

    kind: CallKind
    ends_at_s: float


@dataclass
class Life:
    """One agent, and what can be seen of it from outside."""

    config: Config
    jitter: float = 0.5
    now_s: float = 1000.0
    open: deque[Effect] = field(default_factory=deque)
    in_flight: dict[int, InFlight] = field(default_factory=dict)
    registered: bool = False
    administers: bool = True
    """Whether a kubeconfig ever comes."""
    effects: tuple[Effect, ...] = ()
    """Of the last move."""

    def __post_init__(self) -> None:
        self.state = AgentState(self.config, born_at_s=self.now_s, since_s=self.now_s)

    def go(self, pause_s: float, move: Move) -> AgentState:
        """Make one move; return the state before it."""
        event = self._event(move)
        if isinstance(event, (KubeProbed, KubeLoginsRead)) and event.logins and not self.administers:
            event = replace(event, logins=replace(event.logins, administers=False))
        self.now_s += pause_s
        before = self.state
        self.state, self.effects = step(before, event, self.now_s, POLICY, self.jitter)
        if isinstance(event, CallEnded):
            ended = self.in_flight.pop(event.call_id, None)
            is_registration = ended is not None and ended.kind in {CallKind.REGISTER, CallKind.FAREWELL}
            self.registered |= is_registration and event.outcome.kind is OutcomeKind.OK
        if before.shutdown is None and self.state.shutdown is not None:
            # The farewell does not wait for a keepalive's whole time limit.
            for call in self.in_flight.values():
                if call.kind is CallKind.KEEPALIVE:
                    call.ends_at_s = min(call.ends_at_s, self.now_s + POLICY.farewell_s / 2)
        self.in_flight = {i: call for i, call in self.in_flight.items() if self.now_s < call.ends_at_s}
        self.open += [each for each in self.effects if not isinstance(each, (StopLink, Exit))]
        return before

    def _event(self, move: Move) -> Event:
        if not isinstance(move, (GoodReply, BadReply)):
            return move
        return answer(self.open.popleft(), move) if self.open else Tick()

    def calls(self) -> list[CallGateway]:
        """Return the calls that the last move led to; they are in flight from now on."""
        calls = [each for each in self.effects if isinstance(each, CallGateway)]
        self.in_flight |= {each.call_id: InFlight(each.kind, self.now_s + each.timeout_s) for each in calls}
        return calls
