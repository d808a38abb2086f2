"""Signal handling: SIGTERM and SIGINT stop the agent, SIGUSR1 makes it hand over to another agent.

In a container SIGTERM may also mean that the engine is being stopped, for example while its package is upgraded. The
work runs in Kubernetes and goes on, so the agent then hands over, and asks its service manager to start it again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from agent.core.events import Event, ShutdownRequested
from agent.core.lifecycle.model import ShutdownKind

KINDS = {
    signal.SIGTERM: ShutdownKind.STOP,
    signal.SIGINT: ShutdownKind.STOP,
    signal.SIGUSR1: ShutdownKind.HAND_OVER,
}
ENGINE_STOPS = ShutdownRequested(
    ShutdownKind.HAND_OVER, "the container engine is being stopped; workers keep running", restart=True
)


def install_handlers(put: Callable[[Event], None], engine_stops: Callable[[], bool] | None = None) -> None:
    """Turn signals into events. `engine_stops` tells whether the engine of this container is being stopped."""
    asked = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        request = ShutdownRequested(KINDS[signal.Signals(number)], signal.Signals(number).name)
        if engine_stops is None or number != signal.SIGTERM or asked.is_set():
            put(request)
            return
        asked.set()  # a second signal does not wait for the answer
        _ask(put, engine_stops, request)

    for number in KINDS:
        signal.signal(number, handle)


def _ask(put: Callable[[Event], None], engine_stops: Callable[[], bool], request: ShutdownRequested) -> None:
    """Ask on another thread: the answer may take a second, and a signal handler interrupts whatever the agent does."""

    def decide() -> None:
        put(ENGINE_STOPS if engine_stops() else request)

    try:
        threading.Thread(target=decide, name="engine", daemon=True).start()
    except RuntimeError:  # out of threads
        put(request)
