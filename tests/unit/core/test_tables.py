"""The tables of transitions: complete, without rows that nothing can take, and drawn as they are."""

from __future__ import annotations

from enum import Enum

import pytest

from agent.core.lifecycle import displayed_state, drain
from agent.core.lifecycle.model import FINAL, DisplayedState, DrainPhase
from agent.core.transition_table import Row, mermaid, next_state
from agent.core.tunnel import transitions
from agent.core.tunnel.model import Link, LinkPhase


class Light(Enum):
    """A small machine of this file's own."""

    RED = "red"
    GREEN = "green"


def test_a_table_is_drawn_without_the_rows_that_lead_nowhere() -> None:
    rows = (
        Row(Light.RED, "time", Light.GREEN),
        Row(Light.GREEN, "time", Light.RED),
        Row(Light.RED, "a fault", Light.RED),
    )
    assert mermaid(rows, Light.RED) == (
        "stateDiagram-v2\n    [*] --> red\n    red --> green: time\n    green --> red: time"
    )


def test_the_first_row_whose_condition_holds_is_taken() -> None:
    rows = (Row(Light.RED, "odd", Light.GREEN), Row(Light.RED, "any", Light.RED))
    conditions = {"odd": lambda number: number % 2 == 1, "any": lambda number: number > 0}
    assert next_state(rows, Light.RED, conditions, 3) is Light.GREEN
    assert next_state(rows, Light.RED, conditions, 2) is Light.RED
    assert next_state(rows, Light.RED, conditions, 0) is None
    assert next_state(rows, Light.GREEN, conditions, 3) is None


def test_every_displayed_state_is_reached_and_every_one_but_the_final_ones_is_left() -> None:
    assert {row.target for row in displayed_state.TABLE} == set(DisplayedState) - {DisplayedState.STARTING}
    assert {row.source for row in displayed_state.TABLE} == set(DisplayedState) - FINAL


def test_every_condition_of_the_displayed_state_is_used_and_known() -> None:
    assert {row.when for row in displayed_state.TABLE} == set(displayed_state.CONDITIONS)


def test_a_drain_reaches_every_phase_and_goes_only_forward() -> None:
    order = list(DrainPhase)
    assert {row.target for row in drain.TABLE} == set(DrainPhase) - {DrainPhase.LOOKING}
    assert all(order.index(row.source) < order.index(row.target) for row in drain.TABLE)
    assert {row.when for row in drain.TABLE} == set(drain.CONDITIONS)


@pytest.mark.parametrize("phase", LinkPhase)
def test_a_link_can_fail_in_every_phase(phase: LinkPhase) -> None:
    assert transitions.next_phase(Link(phase=phase), transitions.FAILURE) is LinkPhase.DOWN


def test_a_link_that_is_down_does_not_come_up_without_an_attempt() -> None:
    with pytest.raises(KeyError):
        transitions.next_phase(Link(), transitions.ANSWER)
    assert transitions.next_phase(Link(), transitions.ATTEMPT) is LinkPhase.STARTING
