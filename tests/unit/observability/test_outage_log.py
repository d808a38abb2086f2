"""An hour of outage is a handful of log lines, never one per attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from agent.core.events import Event
from agent.core.lifecycle.model import DisplayedState
from agent.core.state import AgentState
from agent.core.tunnel.model import Purpose
from agent.observability.change_logger import ChangeLogger
from agent.observability.logs import EventLog
from tests.unit.core_cases import POLICY
from tests.unit.simulation import World

HOUR_S = 3600
HANDFUL = 20
"""The start, four reminders for each of the two or three things that fail meanwhile, and the recovery."""


class Recorder(logging.Handler):
    """Keep what was logged: as lines of text, and as (event, fields)."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self.events: list[tuple[str, dict[str, object]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append((record.getMessage(), record.__dict__["fields"]))
        self.lines.append(f"{record.levelname} {record.getMessage()} {record.__dict__['fields']}")


def ready_world(seed: int) -> tuple[World, Recorder]:
    """Return a world whose agent is READY, and a recorder of what it logs from now on."""
    logger = logging.Logger("recorded", logging.INFO)
    recorder = Recorder()
    logger.addHandler(recorder)
    change_logger = ChangeLogger(EventLog(logger), POLICY)
    world = World(seed)

    def log_changes(world: World, event: Event, before: AgentState, after: AgentState) -> None:
        change_logger.on_step(before, after, event, world.now_s)

    world.watch = log_changes
    world.run_for(120)
    assert world.state.displayed is DisplayedState.READY
    recorder.lines.clear()
    recorder.events.clear()
    return world, recorder


def _no_sshd(world: World) -> None:
    world.faults.sshd = True
    world.kill(Purpose.API)
    world.kill(Purpose.REVERSE)


def _gateway(kind: str) -> Callable[[World], None]:
    return lambda world: setattr(world.faults, "gateway", kind)


OUTAGES: dict[str, tuple[Callable[[World], None], Callable[[World], None]]] = {
    "the network": (World.cut, lambda world: setattr(world.faults, "link", False)),
    "sshd": (_no_sshd, lambda world: setattr(world.faults, "sshd", False)),
    **{f"the gateway: {kind}": (_gateway(kind), _gateway("")) for kind in ("refuse", "hang", "500", "401")},
    "k3s": (
        lambda world: setattr(world.faults, "k3s", "refuse"),
        lambda world: setattr(world.faults, "k3s", ""),
    ),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_hour_of_outage_is_a_handful_of_lines(outage: str) -> None:
    world, recorder = ready_world(seed=5)
    begin, heal = OUTAGES[outage]
    begin(world)
    world.run_for(HOUR_S)
    during = list(recorder.lines)
    heal(world)
    world.run_for(400)
    assert world.state.displayed is DisplayedState.READY
    assert during, "an outage that is not logged at all"
    assert len(recorder.lines) <= HANDFUL, "\n".join(recorder.lines)


def test_the_return_tells_how_many_attempts_the_outage_took() -> None:
    world, recorder = ready_world(seed=7)
    begin, heal = OUTAGES["the network"]
    began = world.state.api.generation
    begin(world)
    world.run_for(HOUR_S)
    heal(world)
    world.run_for(60)
    back = next(fields for event, fields in recorder.events if event == "tunnel_api_up")
    assert back["attempts"] == world.state.api.generation - began
    assert back["down_s"] == pytest.approx(HOUR_S, abs=60)
    reminders = [fields for event, fields in recorder.events if event == "tunnel_api_down"]
    assert len(reminders) == 4, "at once, and after 1, 5 and 15 more minutes"


def test_quiet_hours_say_nothing() -> None:
    world, recorder = ready_world(seed=6)
    world.run_for(2 * HOUR_S)
    assert recorder.lines == []
