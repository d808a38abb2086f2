"""What signals request: a stop, a hand-over, and what SIGTERM means while the container engine is being stopped."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from agent.core.events import Event, ShutdownRequested
from agent.core.lifecycle.model import ShutdownKind
from agent.runtime.signals import ENGINE_STOPS, KINDS, install_handlers

DEADLINE_S = 30
STOP = ShutdownRequested(ShutdownKind.STOP, "SIGTERM")


@pytest.fixture(autouse=True)
def _restored_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in KINDS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def requested(number: int, engine_stops: Callable[[], bool] | None) -> Event:
    events: queue.Queue[Event] = queue.Queue()
    install_handlers(events.put, engine_stops)
    os.kill(os.getpid(), number)
    return events.get(timeout=DEADLINE_S)


@pytest.mark.parametrize("number", KINDS)
def test_outside_a_container_a_signal_is_what_it_says(number: signal.Signals) -> None:
    assert requested(number, None) == ShutdownRequested(KINDS[number], number.name)


def test_docker_stop_drains_and_an_engine_that_stops_leaves_the_work_alone() -> None:
    """Field case 11.1: an upgrade of Docker's package must not end work, which runs in Kubernetes."""
    assert requested(signal.SIGTERM, lambda: False) == STOP
    assert requested(signal.SIGTERM, lambda: True) == ENGINE_STOPS
    assert ENGINE_STOPS.kind is ShutdownKind.HAND_OVER
    assert ENGINE_STOPS.restart


def test_a_second_signal_does_not_wait_for_the_engine() -> None:
    events: queue.Queue[Event] = queue.Queue()
    answer = threading.Event()

    def engine_stops() -> bool:
        return answer.wait(DEADLINE_S) and False

    install_handlers(events.put, engine_stops)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert events.get(timeout=DEADLINE_S) == STOP
    answer.set()
    assert events.get(timeout=DEADLINE_S) == STOP


def test_without_threads_it_stops_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "Thread", no_thread)
    assert requested(signal.SIGTERM, lambda: True) == STOP
