"""Signal handling: SIGTERM and SIGINT stop the agent, SIGUSR1 makes it hand over to another agent."""

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
    """Turn signals into events; the handlers do nothing else."""

    def handle(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        put(ShutdownRequested(KINDS[signal.Signals(number)], name))

    for number in KINDS:
        signal.signal(number, handle)
