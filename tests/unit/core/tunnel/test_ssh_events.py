"""Logins, complaints and exits of the ssh children, stale ones included."""

from __future__ import annotations

from agent.core.events import LinkComplained, LinkEnded, LinkLoggedIn
from agent.core.tunnel import ssh_events
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase, Purpose
from tests.unit.core_cases import AT, NOW_S, UP, placeable, with_config

STARTING = Link(phase=LinkPhase.STARTING, generation=4, child=True)
LOST = Fault(FaultKind.LOST, "the connection was cut")


def test_a_login_is_probed_at_once_and_counts_as_up_only_with_an_answer() -> None:
    state = ssh_events.on_logged_in(placeable(api=STARTING), LinkLoggedIn(Purpose.API, 4), AT)
    assert (state.api.phase, state.api.logged_in_at_s, state.api.probe_at_s) == (
        LinkPhase.STARTING,
        NOW_S,
        NOW_S,
    )


def test_the_data_link_has_nothing_to_probe_so_its_login_counts() -> None:
    state = with_config(data=True)
    state = ssh_events.on_logged_in(
        placeable(config=state.config, data=STARTING), LinkLoggedIn(Purpose.DATA, 4), AT
    )
    assert state.data.phase is LinkPhase.UP


def test_a_login_of_api_lets_the_others_try_that_waited_for_the_server() -> None:
    waiting = Link(fault=Fault(FaultKind.UNREACHABLE, "no route"), retry_at_s=NOW_S + 30)
    held_up = Link(fault=Fault(FaultKind.BIND, "taken"), retry_at_s=NOW_S + 30)
    event = LinkLoggedIn(Purpose.API, 4)
    assert (
        ssh_events.on_logged_in(placeable(api=STARTING, reverse=waiting), event, AT).reverse.retry_at_s
        == NOW_S
    )
    state = ssh_events.on_logged_in(placeable(api=STARTING, reverse=held_up), event, AT)
    assert state.reverse.retry_at_s == NOW_S + 30


def test_what_a_key_may_open_is_kept_over_later_complaints() -> None:
    prohibited, other = Fault(FaultKind.PERMIT_OPEN, "prohibited"), Fault(FaultKind.TARGET, "refused")
    state = ssh_events.on_complained(placeable(), LinkComplained(Purpose.API, 1, other), AT)
    assert state.api.last_complaint == other
    state = ssh_events.on_complained(state, LinkComplained(Purpose.API, 1, prohibited), AT)
    state = ssh_events.on_complained(state, LinkComplained(Purpose.API, 1, other), AT)
    assert state.api.last_complaint == prohibited


def test_an_exit_takes_the_link_down() -> None:
    state = ssh_events.on_ended(placeable(), LinkEnded(Purpose.API, UP.generation, LOST), AT)
    assert (state.api.phase, state.api.child, state.api.fault) == (LinkPhase.DOWN, False, LOST)


def test_events_of_an_earlier_child_change_nothing() -> None:
    state = placeable(api=STARTING)
    assert ssh_events.on_logged_in(state, LinkLoggedIn(Purpose.API, 3), AT) is state
    assert ssh_events.on_complained(state, LinkComplained(Purpose.API, 3, LOST), AT) is state
    assert ssh_events.on_ended(state, LinkEnded(Purpose.API, 3, LOST), AT) is state
