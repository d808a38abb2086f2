"""When the hairpin is checked, and what a check's result changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.core.config import K3sMode, ReverseMode
from agent.core.effects import CheckHairpin
from agent.core.events import HairpinChecked
from agent.core.hairpin import upkeep
from agent.core.hairpin.model import Hairpin, HairpinFault, HairpinFaultKind
from agent.core.kubernetes.model import Kube
from agent.core.state import AgentState
from agent.core.tunnel.model import Fallback, LinkPhase
from tests.unit.core_cases import ANSWERING, AT, NOW_S, POLICY, SSH, UP, placeable

AUTO = replace(SSH, reverse=ReverseMode.AUTO)
WORKS = Hairpin(checked_at_s=NOW_S - 1, inspected_at_s=NOW_S - 1, check_at_s=NOW_S + 4, lets_in=True)


def machine(**changes: Any) -> AgentState:
    return placeable(**{"config": AUTO, "hairpin": WORKS, "reverse": replace(UP, any_port=True)} | changes)


def due(state: AgentState) -> list[CheckHairpin]:
    return [effect for effect in upkeep.manage(state, AT)[1] if isinstance(effect, CheckHairpin)]


def test_it_is_made_as_soon_as_there_is_a_k3s() -> None:
    new = machine(hairpin=Hairpin(), kube=Kube(looked=True))
    assert due(new) == []
    assert due(replace(new, kube=ANSWERING)) != []


@pytest.mark.parametrize(
    "changes",
    [
        {"config": SSH},
        {"hairpin": replace(WORKS, checking=True, check_at_s=0.0)},
        {"fallback": Fallback(reason="no relay"), "hairpin": Hairpin()},
    ],
    ids=["plain", "a check is under way", "the plain form stands in"],
)
def test_it_is_not_checked_where_it_is_not_used(changes: dict[str, Any]) -> None:
    assert due(machine(**changes)) == []


def test_it_is_checked_at_intervals_and_at_once_when_k3s_stops_answering() -> None:
    assert due(machine()) == []
    assert due(machine(hairpin=replace(WORKS, check_at_s=NOW_S))) == [
        CheckHairpin(lets_in=True, tries_k3s=False, inspects=False, timeout_s=POLICY.hairpin_timeout_s)
    ]
    (effect,) = due(machine(kube=replace(ANSWERING, answering=False)))
    assert not effect.lets_in


def test_routes_and_filters_are_read_less_often_and_whenever_something_is_wrong() -> None:
    is_due = replace(WORKS, check_at_s=NOW_S)
    long_ago = replace(is_due, inspected_at_s=NOW_S - POLICY.hairpin_inspect_s)
    broken = replace(is_due, fault=HairpinFault(HairpinFaultKind.BROKEN, ""))
    assert [due(machine(hairpin=each))[0].inspects for each in (is_due, long_ago, broken)] == [
        False,
        True,
        True,
    ]
    quick = HairpinChecked(lets_in=True, inspected=False)
    known = replace(WORKS, containers="192.168.1.0/24")
    assert upkeep.on_checked(machine(hairpin=known), quick, AT).hairpin.containers == "192.168.1.0/24"


def test_k3s_itself_is_tried_only_until_the_path_is_up() -> None:
    starting = replace(UP, any_port=True, phase=LinkPhase.STARTING)
    (effect,) = due(machine(reverse=starting, hairpin=Hairpin()))
    assert effect.tries_k3s
    (effect,) = due(
        machine(config=replace(AUTO, k3s=K3sMode.NONE, reverse=ReverseMode.ANY_PORT), hairpin=Hairpin())
    )
    assert effect.lets_in
    assert not effect.tries_k3s


def test_the_path_is_probed_as_soon_as_k3s_is_let_in() -> None:
    starting = replace(UP, any_port=True, phase=LinkPhase.STARTING, probe_at_s=NOW_S + 3)
    state = machine(hairpin=replace(WORKS, lets_in=False), reverse=starting)
    assert upkeep.on_checked(state, HairpinChecked(lets_in=True), AT).reverse.probe_at_s == NOW_S


def test_connections_that_cannot_be_cut_end_with_the_child() -> None:
    state = upkeep.on_checked(machine(), HairpinChecked(lets_in=False, uncut=True), AT)
    assert state.reverse.phase is LinkPhase.DOWN


def test_a_k3s_that_is_never_reached_counts_as_no_hairpin_and_one_restart_does_not() -> None:
    state, missed = machine(), HairpinChecked(lets_in=True, k3s_missed="on loopback only")
    for _ in range(2):
        state = upkeep.on_checked(state, missed, AT)
    assert state.hairpin.works
    assert upkeep.on_checked(state, HairpinChecked(lets_in=True), AT).hairpin.k3s_misses == 0
    fault = upkeep.on_checked(state, missed, AT).hairpin.fault
    assert fault == HairpinFault(HairpinFaultKind.UNABLE, "on loopback only")


@pytest.mark.parametrize(
    ("mode", "pause_s"),
    [(ReverseMode.AUTO, POLICY.any_port_retry_s), (ReverseMode.ANY_PORT, POLICY.hairpin_interval_s)],
)
def test_a_machine_that_can_make_none_is_asked_again_later(mode: ReverseMode, pause_s: float) -> None:
    fault = HairpinFault(HairpinFaultKind.UNABLE, "no NET_ADMIN")
    state = machine(config=replace(SSH, reverse=mode))
    checked = upkeep.on_checked(state, HairpinChecked(lets_in=True, fault=fault), AT)
    assert checked.hairpin.check_at_s == NOW_S + pause_s
    assert not checked.hairpin.lets_in
