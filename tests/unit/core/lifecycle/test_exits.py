"""Which fault ends the process, with which exit code, and which never does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.context import Context
from agent.core.lifecycle import exits
from agent.core.lifecycle.model import ExitDecision, Shutdown, ShutdownKind
from agent.core.machine_api.model import Registration
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.state import AgentState
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link
from agent.errors import ExitCode
from tests.unit.core_cases import AT, NOW_S, POLICY, placeable, with_config

LEAVING = Shutdown(ShutdownKind.STOP, NOW_S, NOW_S + 90, "SIGTERM")


def failed(kind: FaultKind, **changes: object) -> AgentState:
    return placeable(api=Link(fault=Fault(kind, "what it is")), **changes)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (FaultKind.AUTH, ExitCode.REFUSED),
        (FaultKind.SECRET, ExitCode.REFUSED),
        (FaultKind.HOST_KEY, ExitCode.UNUSABLE),
        (FaultKind.KEY_FILE, ExitCode.UNUSABLE),
        (FaultKind.NO_SSH, ExitCode.UNUSABLE),
    ],
)
def test_a_fault_that_no_retry_fixes_ends_a_first_start(kind: FaultKind, code: ExitCode) -> None:
    assert exits.decide_exit(failed(kind), AT).exit_decision == ExitDecision(code, "what it is")


@pytest.mark.parametrize("kind", sorted(set(FaultKind) - set(exits.LINK_FAULTS)))
def test_any_other_fault_ends_nothing(kind: FaultKind) -> None:
    assert exits.decide_exit(failed(kind), AT).exit_decision is None


@pytest.mark.parametrize("changes", [{"registration": Registration(times=1)}, {"shutdown": LEAVING}])
def test_once_registered_or_leaving_no_fault_ends_it(changes: dict[str, object]) -> None:
    assert exits.decide_exit(failed(FaultKind.AUTH, **changes), AT).exit_decision is None
    state = placeable(**changes)
    assert exits.after_refusal(state, Outcome(OutcomeKind.UNAUTHORIZED, "401")).exit_decision is None


def test_a_local_port_that_stays_taken_ends_a_start_after_a_while() -> None:
    link = Link(fault=Fault(FaultKind.LOCAL_PORT, "taken"), conflict_since_s=NOW_S)
    later = Context(NOW_S + POLICY.conflict_s, POLICY)
    assert exits.decide_exit(placeable(api=link), AT).exit_decision is None
    assert exits.decide_exit(placeable(api=link), later).exit_decision == ExitDecision(
        ExitCode.UNUSABLE, "taken; tried for 15 s"
    )


@pytest.mark.parametrize("kind", OutcomeKind)
def test_refusals_of_the_gateway_end_a_start_and_outages_do_not(kind: OutcomeKind) -> None:
    decision = exits.after_refusal(placeable(), Outcome(kind, "as answered")).exit_decision
    expected = exits.REFUSALS.get(kind)
    assert decision == (ExitDecision(expected, "as answered") if expected else None)


def test_once_gives_up_after_its_deadline_and_says_what_was_missing() -> None:
    state = replace(with_config(once=True), born_at_s=NOW_S, last_error="the gateway answered 502")
    late = Context(NOW_S + POLICY.once_deadline_s, POLICY)
    assert exits.decide_exit(state, AT).exit_decision is None
    decision = exits.decide_exit(state, late).exit_decision
    assert decision is not None
    assert decision.exit_code is ExitCode.GAVE_UP
    assert decision.reason.startswith("not registered within 60 s: the gateway answered 502; ")


@pytest.mark.parametrize(
    ("kind", "restart", "code"),
    [
        (ShutdownKind.HAND_OVER, True, ExitCode.GAVE_UP),
        (ShutdownKind.HAND_OVER, False, ExitCode.OK),
        (ShutdownKind.STOP, True, ExitCode.OK),
    ],
)
def test_only_a_hand_over_to_the_service_manager_ends_as_a_failure(
    kind: ShutdownKind, restart: bool, code: ExitCode
) -> None:
    """systemd starts the agent again only after a failure; whoever asks for a stop in the meantime gets one."""
    decision = exits.left(placeable(), replace(LEAVING, kind=kind, restart=restart)).exit_decision
    assert decision is not None
    assert decision.exit_code is code


def test_once_is_done_with_the_first_keepalive() -> None:
    assert exits.after_keepalive(placeable()).exit_decision is None
    decision = exits.after_keepalive(with_config(once=True)).exit_decision
    assert decision is not None
    assert decision.exit_code is ExitCode.OK


def test_leaving_ends_well_whoever_asked() -> None:
    assert exits.left(placeable(), LEAVING).exit_decision == ExitDecision(ExitCode.OK, "SIGTERM")
    assert exits.asked_twice(placeable(), "SIGINT").exit_decision == ExitDecision(
        ExitCode.OK, "SIGINT, asked twice"
    )
