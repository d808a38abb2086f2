"""Signals: SIGTERM and SIGINT ask the agent to stop, SIGUSR1 to hand over to another agent."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

from agent.core.events import Event, ShutdownRequested
from agent.core.lifecycle.model import ShutdownKind

KINDS = {
    signal.SIGTERM: ShutdownKind.STOP,
    signal.SIGINT: ShutdownKind.STOP,
    signal.SIGUSR1: ShutdownKind.HAND_OVER,
}


def install_handlers(put: Callable[[Event], None]) -> None:
    """From now on a signal becomes an event; a handler does nothing else."""

    def handle(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        put(ShutdownRequested(KINDS[signal.Signals(number)], name))

    for number in KINDS:
        signal.signal(number, handle)
