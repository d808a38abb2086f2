"""Makes the core's calls to the gateway: adds the k3s token to a registration, sends it, and reports the outcome."""

from __future__ import annotations

from collections.abc import Callable

from agent.adapters.gateway.machine_api import Gateway
from agent.core.effects import CallGateway
from agent.core.events import CallEnded, Event
from agent.core.machine_api import wire
from agent.core.machine_api.model import CallKind
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.errors import AgentError
from agent.observability.logs import EventLog
from agent.runtime.supervisor import Executor, Executors


class GatewayCalls:
    """The executor of CallGateway. `k3s_token` returns the token for a registration; it may raise AgentError."""

    def __init__(
        self,
        gateway: Gateway,
        k3s_token: Callable[[], str | None],
        log: EventLog,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self._gateway = gateway
        self._k3s_token = k3s_token
        self._log = log
        self._on_outcome = on_outcome

    def executors(self) -> Executors:
        """Return the executor of calls."""
        return {CallGateway: Executor(self._call, _call_failed)}

    def _call(self, effect: CallGateway) -> Event:
        body = effect.body
        if effect.kind in {CallKind.REGISTER, CallKind.FAREWELL}:
            body = wire.with_k3s_token(body, self._token())
        outcome = self._gateway.call(
            effect.kind,
            body,
            effect.timeout_s,
            fresh_secret=effect.fresh_secret,
            number=effect.call_id,
        )
        self._on_outcome(outcome)
        return CallEnded(effect.call_id, outcome)

    def _token(self) -> str:
        try:
            return self._k3s_token() or ""
        except AgentError as error:
            # Register without it: no work can be placed then, so none is offered (core/machine_api/offer.py).
            self._log.warning("k3s_token", text=str(error))
            return ""


def _call_failed(effect: CallGateway, error: Exception) -> Event:
    return CallEnded(
        effect.call_id, Outcome(OutcomeKind.NO_ANSWER, f"the gateway could not be called: {error}")
    )
