"""What a failure costs a link, where it goes next, and when it is wanted at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.config import Connection, K3sMode
from agent.core.context import Context
from agent.core.effects import StartLink
from agent.core.events import LinkLoggedIn
from agent.core.kubernetes.model import Kube
from agent.core.lifecycle.model import ExitDecision
from agent.core.state import AgentState
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase, Purpose
from agent.core.tunnel.schedule import manage
from agent.core.tunnel.ssh_events import on_logged_in
from agent.core.tunnel.transitions import answered, fail, is_wanted
from agent.errors import ExitCode
from tests.unit.core_cases import ADDRESSES, AT, NOW_S, POLICY, UP, placeable, with_config

LOST = Fault(FaultKind.LOST, "the connection was cut")


def test_the_reverse_link_is_wanted_only_while_k3s_answers() -> None:
    assert is_wanted(placeable(), Purpose.REVERSE)
    assert not is_wanted(placeable(kube=Kube(expected=True, looked=True)), Purpose.REVERSE)
    assert not is_wanted(with_config(connection=Connection.DIRECT), Purpose.REVERSE)
    assert is_wanted(with_config(k3s=K3sMode.NONE), Purpose.REVERSE)


def test_the_data_link_is_wanted_where_forwards_are_configured() -> None:
    assert not is_wanted(placeable(), Purpose.DATA)
    assert is_wanted(with_config(data=True), Purpose.DATA)


def test_nothing_is_wanted_once_the_end_is_decided() -> None:
    state = placeable(exit_decision=ExitDecision(ExitCode.OK, "SIGTERM"))
    assert not any(is_wanted(state, purpose) for purpose in Purpose)


def test_a_failure_is_noted_with_its_kind_and_the_next_attempt_has_another_generation_to_come() -> None:
    link = fail(placeable(), Purpose.API, LOST, AT).api
    assert (link.phase, link.fault, link.restarts) == (LinkPhase.DOWN, LOST, (("lost", 1),))
    assert link.retry_at_s >= NOW_S
    again = fail(placeable(api=replace(link, phase=LinkPhase.STARTING)), Purpose.API, LOST, AT).api
    assert again.restarts == (("lost", 2),)


@pytest.mark.parametrize("kind", [FaultKind.BIND, FaultKind.ADDRESS, FaultKind.SILENT])
def test_the_reverse_path_takes_its_next_address_at_once(kind: FaultKind) -> None:
    state = fail(placeable(), Purpose.REVERSE, Fault(kind, "taken"), AT)
    assert state.address == ADDRESSES[1]
    assert state.detour == f"not {ADDRESSES[0]}: taken"
    assert state.reverse.retry_at_s == NOW_S


def test_after_one_round_over_all_addresses_there_is_a_pause() -> None:
    tired = placeable(reverse=Link(phase=LinkPhase.STARTING, attempt=len(ADDRESSES)))
    assert fail(tired, Purpose.REVERSE, Fault(FaultKind.BIND, "taken"), AT).reverse.retry_at_s > NOW_S


def test_a_refused_key_holds_up_every_link_that_uses_it() -> None:
    state = fail(placeable(), Purpose.API, Fault(FaultKind.AUTH, "denied"), AT)
    other = fail(state, Purpose.REVERSE, LOST, AT).reverse
    assert other.retry_at_s >= NOW_S + POLICY.denied_min_s


def test_a_link_that_was_stable_starts_again_from_the_first_pause() -> None:
    stable = replace(UP, attempt=9, up_since_s=NOW_S - POLICY.settled_s)
    assert fail(placeable(api=stable), Purpose.API, LOST, AT).api.attempt == 1
    shaky = replace(UP, attempt=9, up_since_s=NOW_S - 1)
    assert fail(placeable(api=shaky), Purpose.API, LOST, AT).api.attempt == 10


def test_a_refused_session_channel_is_given_up_for_good() -> None:
    link = fail(placeable(), Purpose.API, Fault(FaultKind.SESSION, "refused"), AT).api
    assert not link.session
    assert link.retry_at_s == NOW_S


def test_an_answer_brings_a_link_up_and_clears_what_was_wrong() -> None:
    starting = Link(phase=LinkPhase.STARTING, fault=LOST, silent=2, down_since_s=NOW_S - 9)
    link = answered(starting, 0.01, AT)
    assert (link.phase, link.up_since_s, link.fault, link.silent) == (LinkPhase.UP, NOW_S, None, 0)
    assert answered(UP, 0.01, AT).up_since_s == UP.up_since_s


def test_after_a_login_that_was_overdue_each_address_gets_only_a_moment_for_every_link() -> None:
    """Field case 3.2: with several silent addresses ssh would never get to the one that serves."""

    def started(state: AgentState, at_s: float) -> tuple[AgentState, dict[Purpose, bool]]:
        state, effects = manage(state, Context(at_s, POLICY))
        return state, {each.purpose: each.hurry for each in effects if isinstance(each, StartLink)}

    state, hurried = started(placeable(api=Link(), reverse=Link()), NOW_S)
    assert hurried == {Purpose.API: False, Purpose.REVERSE: False}
    overdue_s = NOW_S + POLICY.start_timeout_s
    state, _ = started(state, overdue_s)
    state, hurried = started(state, overdue_s + POLICY.outage_cap_s)
    assert hurried == {Purpose.API: True}
    in_s = overdue_s + POLICY.outage_cap_s + 1
    state = on_logged_in(state, LinkLoggedIn(Purpose.API, state.api.generation), Context(in_s, POLICY))
    state, hurried = started(state, in_s)
    assert hurried == {Purpose.REVERSE: True}
    # Cut after a login, the same addresses can be expected; refused without one, ssh takes its time again.
    state = fail(state, Purpose.API, LOST, Context(in_s, POLICY))
    state, hurried = started(state, in_s + POLICY.outage_cap_s)
    assert hurried == {Purpose.API: True}
    state = fail(state, Purpose.API, LOST, Context(in_s + 10, POLICY))
    state, hurried = started(state, in_s + 10 + POLICY.outage_cap_s)
    assert hurried == {Purpose.API: False}
