"""The farewell: sent once, and not for a machine that the gateway no longer knows."""

from __future__ import annotations

from dataclasses import replace

from agent.core.effects import CallGateway
from agent.core.lifecycle.model import DrainPhase, Shutdown, ShutdownKind
from agent.core.machine_api import calls, offer
from agent.core.machine_api.farewell import farewell_sent, may_speak
from agent.core.machine_api.model import CallKind, Offer
from tests.unit.core.machine_api.test_calls import due, registered
from tests.unit.core_cases import AT, NOW_S


def test_the_farewell_is_a_registration_that_offers_nothing_and_is_sent_once() -> None:
    leaving = Shutdown(ShutdownKind.STOP, NOW_S - 5, NOW_S + 3, "SIGTERM", phase=DrainPhase.FAREWELL)
    state = registered(shutdown=leaving, offer=Offer(offered=False, reason="leaving"))
    (effect,) = calls.manage(state, AT)[1]
    assert isinstance(effect, CallGateway)
    assert (effect.kind, effect.body["cpu"]) == (CallKind.FAREWELL, "0m")
    said = replace(state.registration, advertisement=offer.advertisement(state), at_s=NOW_S, quiet=True)
    assert farewell_sent(replace(state, registration=said))


def test_a_machine_that_somebody_deleted_is_not_brought_back_by_a_farewell() -> None:
    leaving = Shutdown(ShutdownKind.STOP, NOW_S - 5, NOW_S + 3, "SIGTERM", phase=DrainPhase.FAREWELL)
    state = registered(shutdown=leaving)
    assert due(replace(state, registration=replace(state.registration, known=False))) is None


def test_waiting_for_workers_keeps_the_lease_even_if_the_gateway_forgets_the_machine() -> None:
    waiting = Shutdown(ShutdownKind.LEAVE_IDLE, NOW_S - 5, float("inf"), "leave", phase=DrainPhase.WAITING)
    state = registered(shutdown=waiting)
    forgotten = replace(state, registration=replace(state.registration, known=False))
    assert may_speak(forgotten, waiting)
    assert not may_speak(forgotten, replace(waiting, phase=DrainPhase.ENDING))
