"""A log that tells of an hour without a gateway in a handful of lines is read; one line per attempt is not."""

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
from tests.unit.simulation import World

HOUR_S = 3600
HANDFUL = 20
"""Begin, four reminders for each of the two or three things that do not work then, and the return."""


class Told(logging.Handler):
    """What was logged, as `event reason text`."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self.events: list[tuple[str, dict[str, object]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append((record.getMessage(), record.__dict__["fields"]))
        self.lines.append(f"{record.levelname} {record.getMessage()} {record.__dict__['fields']}")


def narrated(seed: int) -> tuple[World, Told]:
    """A world whose agent is READY, and what it logs from now on."""
    logger = logging.Logger("narrated", logging.INFO)
    told = Told()
    logger.addHandler(told)
    narrator = ChangeLogger(EventLog(logger))
    world = World(seed)

    def tell(world: World, event: Event, before: AgentState, after: AgentState) -> None:
        narrator.on_step(before, after, event, world.now_s)

    world.watch = tell
    world.run_for(120)
    assert world.state.displayed is DisplayedState.READY
    told.lines.clear()
    told.events.clear()
    return world, told


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
    world, told = narrated(seed=5)
    begin, heal = OUTAGES[outage]
    begin(world)
    world.run_for(HOUR_S)
    during = list(told.lines)
    heal(world)
    world.run_for(400)
    assert world.state.displayed is DisplayedState.READY
    assert during, "an outage that nobody is told of"
    assert len(told.lines) <= HANDFUL, "\n".join(told.lines)


def test_the_return_tells_how_many_attempts_the_outage_took() -> None:
    world, told = narrated(seed=7)
    begin, heal = OUTAGES["the network"]
    began = world.state.api.generation
    begin(world)
    world.run_for(HOUR_S)
    heal(world)
    world.run_for(60)
    back = next(fields for event, fields in told.events if event == "tunnel_api_up")
    assert back["attempts"] == world.state.api.generation - began
    assert back["down_s"] == pytest.approx(HOUR_S, abs=60)
    reminders = [fields for event, fields in told.events if event == "tunnel_api_down"]
    assert len(reminders) == 4, "at once, and after 1, 5 and 15 more minutes"


def test_quiet_hours_say_nothing() -> None:
    world, told = narrated(seed=6)
    world.run_for(2 * HOUR_S)
    assert told.lines == []
