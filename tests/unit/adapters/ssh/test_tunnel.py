"""Starting ssh children: whatever goes wrong ends that start, and never the thread that makes the next one."""

from __future__ import annotations

import errno
import queue

import pytest

from agent.adapters.ssh import tunnel
from agent.adapters.ssh.tunnel import Tunnel
from agent.core.effects import StartLink
from agent.core.events import Event, LinkEnded
from agent.core.policy import Policy
from agent.core.tunnel.faults import FaultKind
from agent.core.tunnel.model import Purpose
from agent.core.tunnel.ssh_argv import Endpoint, Forwards
from agent.errors import TransientError

DEADLINE_S = 30.0
FORWARDS = Forwards(gateway="127.0.0.1:1994:localhost:31994")


def no_endpoint() -> Endpoint:
    raise TransientError("the secret store does not answer")


def ended(made: Tunnel, events: queue.SimpleQueue[Event], generation: int) -> LinkEnded:
    """Start the api child and return how that ended."""
    made.start(StartLink(Purpose.API, generation, None, session=True))
    event = events.get(timeout=DEADLINE_S)
    assert isinstance(event, LinkEnded)
    assert event.generation == generation
    return event


@pytest.mark.parametrize("where", ["is_taken", "endpoint"])
def test_a_start_without_descriptors_does_not_stop_the_next(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Fault 47: without a descriptor even looking at the local port fails."""
    exhausted = [OSError(errno.EMFILE, "Too many open files")]

    def fails_once(*_: object) -> bool:
        if exhausted:
            raise exhausted.pop()
        return False

    def endpoint() -> Endpoint:
        if where == "endpoint":
            fails_once()
        return no_endpoint()

    if where == "is_taken":
        monkeypatch.setattr(tunnel, "is_taken", fails_once)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    made = Tunnel(endpoint, FORWARDS, Policy(), events.put, local=("127.0.0.1", 1994))
    first, second = ended(made, events, 1), ended(made, events, 2)
    assert first.fault.kind is FaultKind.EXITED
    assert "Too many open files" in first.fault.message
    assert second.fault.message == "the secret store does not answer"


def test_a_local_port_that_is_taken_is_named_with_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "is_taken", lambda *_: True)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    made = Tunnel(
        no_endpoint,
        FORWARDS,
        Policy(),
        events.put,
        describe_holder=lambda port: f"{port} is held by nginx (pid 7)",
        local=("127.0.0.1", 1994),
    )
    fault = ended(made, events, 1).fault
    assert fault.kind is FaultKind.LOCAL_PORT
    assert "nginx (pid 7)" in fault.message
