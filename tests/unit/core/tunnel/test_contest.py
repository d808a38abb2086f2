"""Who holds an address that sshd refused, and what is said about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.effects import ProbeContest
from agent.core.events import ContestProbed
from agent.core.state import AgentState
from agent.core.tunnel import contest
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Contest, Holder, LinkPhase, Purpose
from agent.core.tunnel.transitions import fail
from tests.unit.core_cases import ADDRESSES, AT, NOW_S, placeable, with_config

TAKEN = Fault(FaultKind.BIND, "sshd refused the reverse address: it is taken")


def refused(state: AgentState) -> AgentState:
    return fail(state, Purpose.REVERSE, TAKEN, AT)


def test_an_address_that_is_taken_is_asked_who_holds_it() -> None:
    state, effects = contest.manage(refused(placeable(candidate=5)), AT)
    assert effects == [ProbeContest(1, AT.policy.probe_timeout_s)]
    assert contest.manage(state, AT)[1] == []
    after = contest.on_probed(state, ContestProbed(1, Holder.TWIN), AT)
    assert contest.manage(after, AT)[1] == []
    later = replace(AT, now_s=NOW_S + AT.policy.contest_interval_s)
    assert contest.manage(after, later)[1] == effects


def test_nobody_is_asked_without_a_way_to_the_gateway_s_side() -> None:
    state = refused(placeable())
    down = replace(state, api=replace(state.api, phase=LinkPhase.DOWN))
    assert contest.manage(down, AT)[1] == []
    assert contest.manage(placeable(), AT) == (placeable(), [])


@pytest.mark.parametrize(
    ("holder", "texts"),
    [
        (Holder.TWIN, ("has this machine's id 1165a9b6", ADDRESSES[0], "copy of the other's disk")),
        (Holder.STRANGER, (f"another machine answers at {ADDRESSES[0]}", "BETA9_MACHINE_ID")),
        # A dead session of this machine's own.
        (Holder.SILENT, ()),
        (Holder.NOBODY, ()),
    ],
)
def test_another_machine_is_named_and_a_dead_session_is_not(holder: Holder, texts: tuple[str, ...]) -> None:
    asked = contest.manage(refused(placeable()), AT)[0]
    after = contest.on_probed(asked, ContestProbed(0, holder), AT)
    told = contest.warning(after)
    assert (told is None) is (not texts)
    assert all(text in str(told) for text in texts)
    assert (after.contest is None) is (holder is Holder.NOBODY)


def test_an_answer_about_another_address_changes_nothing() -> None:
    state = refused(placeable())
    assert contest.on_probed(state, ContestProbed(2, Holder.TWIN), AT) == state


def test_it_is_over_once_this_machine_holds_the_address() -> None:
    state = placeable(candidate=4, contest=Contest(0, NOW_S, holder=Holder.TWIN))
    assert contest.manage(state, AT)[0].contest is None
    assert contest.manage(replace(state, candidate=1), AT)[0].contest is not None


def test_a_single_configured_address_is_contested_likewise() -> None:
    state = refused(replace(with_config(addresses=ADDRESSES[:1])))
    assert state.contest is not None
    assert state.contest.candidate == 0
