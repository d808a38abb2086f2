"""Which call is due: check, register, keepalive, farewell, one at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.core.config import K3sMode
from agent.core.context import Context
from agent.core.effects import CallGateway
from agent.core.machine_api import calls, offer
from agent.core.machine_api.model import Call, CallKind, Lease, Offer, Registration
from agent.core.state import AgentState
from agent.core.tunnel.model import Link
from tests.unit.core_cases import AT, NOW_S, POLICY, placeable

OFFERED = Offer(offered=True, reason=None)


def registered(**changes: Any) -> AgentState:
    """Checked, registered with what is offered, ready, and the next keepalive is due in 50 s."""
    state = placeable(offer=OFFERED)
    registration = Registration(True, True, 1, advertisement=offer.advertisement(state), at_s=NOW_S - 10)
    lease = Lease(ready=True, last_ok_s=NOW_S - 10, expires_at_s=NOW_S + 290, next_at_s=NOW_S + 50)
    return replace(state, registration=registration, lease=lease, **changes)


def due(state: AgentState, ctx: Context = AT) -> CallKind | None:
    effects = calls.manage(state, ctx)[1]
    assert len(effects) <= 1
    return effects[0].kind if effects and isinstance(effects[0], CallGateway) else None


def test_route_and_token_are_checked_before_anything_else() -> None:
    assert due(placeable()) is CallKind.CHECK


def test_after_the_check_it_registers() -> None:
    assert due(placeable(registration=Registration(checked=True))) is CallKind.REGISTER


def test_while_all_is_well_only_keepalives_are_due_in_time() -> None:
    assert due(registered()) is None
    assert due(registered(), Context(NOW_S + 50, POLICY)) is CallKind.KEEPALIVE


def test_another_offer_means_registering_again() -> None:
    assert due(registered(offer=Offer(offered=False, reason="k3s"))) is CallKind.REGISTER


def test_an_expired_lease_means_registering_again() -> None:
    state, _ = calls.manage(registered(), Context(NOW_S + 290, POLICY))
    assert not state.registration.known
    assert due(registered(), Context(NOW_S + 290, POLICY)) is CallKind.REGISTER


def test_one_call_at_a_time() -> None:
    busy = registered(call=Call(3, CallKind.KEEPALIVE, NOW_S + 5), offer=Offer(offered=False, reason="k3s"))
    assert due(busy) is None


def test_a_call_that_outlives_its_deadline_is_given_up() -> None:
    stuck = registered(call=Call(3, CallKind.KEEPALIVE, NOW_S - 1))
    state, _ = calls.manage(stuck, AT)
    assert state.lease.failures == 1
    assert state.last_error == "keepalive: no end after its time limit"


@pytest.mark.parametrize("changes", [{"api": Link()}, {"call_retry_at_s": NOW_S + 1}])
def test_nothing_is_called_while_the_gateway_is_out_of_reach_or_a_pause_lasts(
    changes: dict[str, Any],
) -> None:
    assert due(placeable(**changes)) is None


def test_a_first_registration_waits_for_the_path_only_so_long() -> None:
    unverified = placeable(reverse=Link(), path_verified=False, registration=Registration(checked=True))
    assert due(unverified) is CallKind.REGISTER  # the api link has been up for 100 s
    fresh = replace(unverified, api=replace(unverified.api, up_since_s=NOW_S - 1))
    assert due(fresh) is None


def test_with_k3s_required_nothing_is_registered_before_it_answers() -> None:
    state = placeable(registration=Registration(checked=True))
    required = replace(state, config=replace(state.config, k3s=K3sMode.REQUIRED))
    assert due(required) is CallKind.REGISTER
    assert due(replace(required, kube=replace(required.kube, answering=False))) is None
