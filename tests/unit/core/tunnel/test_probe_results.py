"""What probes find: closed is not silent, and three silent ones replace the child."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.events import Answer, ApiProbed, Probe, ReverseProbed
from agent.core.state import AgentState
from agent.core.tunnel import probe_results
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase
from tests.unit.core_cases import ADDRESSES, AT, NOW_S, POLICY, UP, placeable

LOGGED_IN = replace(UP, logged_in_at_s=NOW_S - 60)


def api_probed(answer: Answer, times: int = 1, **link: object) -> AgentState:
    state = placeable(api=replace(LOGGED_IN, **link))  # type: ignore[arg-type]
    for _ in range(times):
        state = probe_results.on_api_probed(state, ApiProbed(UP.generation, Probe(answer, 0.01)), AT)
    return state


def reverse_probed(answer: Answer, times: int = 1, **link: object) -> AgentState:
    state = placeable(reverse=replace(LOGGED_IN, **link))  # type: ignore[arg-type]
    for _ in range(times):
        state = probe_results.on_reverse_probed(state, ReverseProbed(UP.generation, Probe(answer, 0.01)), AT)
    return state


def test_three_silent_probes_replace_the_child_and_two_do_not() -> None:
    assert api_probed(Answer.SILENT, 2).api.phase is LinkPhase.UP
    link = api_probed(Answer.SILENT, 3).api
    assert link.phase is LinkPhase.DOWN
    assert link.fault is not None
    assert link.fault.kind is FaultKind.SILENT


@pytest.mark.parametrize("answer", [Answer.CLOSED, Answer.BEYOND_SILENT])
def test_a_gateway_that_is_down_behind_the_tunnel_costs_no_child(answer: Answer) -> None:
    link = api_probed(answer, 50).api
    assert link.phase is LinkPhase.UP
    assert link.fault is not None
    assert link.fault.kind is FaultKind.TARGET


@pytest.mark.parametrize("answer", [Answer.ANSWERED, Answer.DENIED, Answer.UNWELL])
def test_any_word_of_the_gateway_means_that_the_way_is_open(answer: Answer) -> None:
    state = api_probed(answer, phase=LinkPhase.STARTING, up_since_s=None)
    assert state.api.phase is LinkPhase.UP
    assert state.call_retry_at_s == state.lease.next_at_s == NOW_S


def test_what_answers_before_the_login_is_not_our_child() -> None:
    link = api_probed(Answer.ANSWERED, phase=LinkPhase.STARTING, logged_in_at_s=None).api
    assert link.phase is LinkPhase.STARTING


def test_what_sshd_prohibits_is_tried_by_another_login_after_a_while() -> None:
    prohibited = Fault(FaultKind.PERMIT_OPEN, "prohibited")
    early = api_probed(Answer.CLOSED, last_complaint=prohibited, logged_in_at_s=NOW_S - 1).api
    late = api_probed(
        Answer.CLOSED, last_complaint=prohibited, logged_in_at_s=NOW_S - POLICY.denied_min_s
    ).api
    assert (early.phase, late.phase) == (LinkPhase.UP, LinkPhase.DOWN)


def test_an_answer_through_the_reverse_path_verifies_it() -> None:
    state = placeable(path_verified=False, reverse=replace(LOGGED_IN, phase=LinkPhase.STARTING))
    state = probe_results.on_reverse_probed(state, ReverseProbed(1, Probe(Answer.ANSWERED, 0.01)), AT)
    assert state.path_verified
    assert state.reverse.phase is LinkPhase.UP


def test_another_machines_k3s_at_our_address_moves_us_to_the_next() -> None:
    state = reverse_probed(Answer.DENIED)
    assert state.address == ADDRESSES[1]
    assert state.reverse.fault is not None
    assert state.reverse.fault.kind is FaultKind.ADDRESS


def test_a_silent_reverse_path_is_blamed_only_while_the_api_link_answers() -> None:
    assert reverse_probed(Answer.SILENT, 3).reverse.phase is LinkPhase.DOWN
    state = placeable(reverse=LOGGED_IN, api=replace(UP, silent=1))
    for _ in range(5):
        state = probe_results.on_reverse_probed(state, ReverseProbed(1, Probe(Answer.SILENT, 2.5)), AT)
    assert state.reverse.phase is LinkPhase.UP


def test_an_address_that_refuses_long_after_the_login_means_gateway_ports_no() -> None:
    link = reverse_probed(Answer.CLOSED, phase=LinkPhase.STARTING, logged_in_at_s=NOW_S - 10).reverse
    assert link.fault is not None
    assert link.fault.kind is FaultKind.GATEWAY_PORTS
    fresh = reverse_probed(Answer.CLOSED, phase=LinkPhase.STARTING, logged_in_at_s=NOW_S - 0.1).reverse
    assert fresh.phase is LinkPhase.STARTING


def test_a_probe_of_an_earlier_child_changes_nothing() -> None:
    state = placeable(api=replace(Link(phase=LinkPhase.STARTING), generation=9))
    assert probe_results.on_api_probed(state, ApiProbed(8, Probe(Answer.SILENT)), AT) is state
