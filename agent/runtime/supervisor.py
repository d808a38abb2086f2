"""The only loop: takes events from one queue, asks the core what to do, has it done.

One thread decides. Whatever may wait (the network, a secret store, NVML, a child process) does so on a thread
of its own and comes back as an event, so that nothing slow ever delays a keepalive.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.core.effects import Effect, Exit
from agent.core.events import Event, Tick
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.step import step, wake_in_s
from agent.errors import ExitCode

STALLED_S = 30.0
"""A loop that did not turn for this long is stuck; it is `/healthz`'s only measure."""


class ChangeLogger(Protocol):
    """Tells people what changed."""

    def tell(self, before: AgentState, after: AgentState, event: Event, now_s: float) -> None:
        """Called after every step, with the knowledge before and after it."""


class Action(Protocol):
    """Carries one kind of command out."""

    def __call__(self, command: Any, /) -> Event | None:
        """Do it; what came of it, if anything, is an event."""


@dataclass(frozen=True)
class Executor:
    """How one kind of command is carried out: `act` does it, `failed` is what an unforeseen error becomes."""

    act: Action
    failed: Callable[[Any, Exception], Event] | None = None
    """None: `act` is quick and is called by the deciding thread itself."""


@dataclass
class Supervisor:
    """The agent at work. `run` returns when the core says Finish."""

    worker: AgentState
    policy: Policy
    executors: Mapping[type, Executor]
    narrator: ChangeLogger
    now_s: Callable[[], float]
    jitter: Callable[[], float]
    on_unforeseen: Callable[[str, Exception], None]
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    turned_at_s: float = 0.0
    finish: Exit | None = None

    def put(self, event: Event) -> None:
        """Tell the agent that something happened. Safe from any thread, and from a signal handler."""
        self.events.put(event)

    def run(self) -> ExitCode:
        """Turn until the end is decided."""
        self._take(Tick())
        while self.finish is None:
            try:
                event = self.events.get(timeout=wake_in_s(self.worker, self.now_s()))
            except queue.Empty:
                event = Tick()
            self._take(event)
        return self.finish.exit_code

    def is_live(self) -> bool:
        """Whether the loop turns. Says nothing about the gateway: restarting us would not help that."""
        return self.now_s() - self.turned_at_s < STALLED_S

    def _take(self, event: Event) -> None:
        now_s = self.turned_at_s = self.now_s()
        before = self.worker
        self.worker, commands = step(before, event, now_s, self.policy, self.jitter())
        self.narrator.tell(before, self.worker, event, now_s)
        for command in commands:
            self._do(command)

    def _do(self, command: Effect) -> None:
        if isinstance(command, Exit):
            self.finish = command
            return
        doing = self.executors[type(command)]
        if doing.failed is None:
            doing.act(command)
            return
        try:
            name = type(command).__name__
            threading.Thread(
                target=self._run_in_thread, args=(doing, command), name=name, daemon=True
            ).start()
        except RuntimeError as error:  # no more threads can be had just now
            self.put(doing.failed(command, error))

    def _run_in_thread(self, doing: Executor, command: Effect) -> None:
        assert doing.failed is not None  # noqa: S101 - `_do` looked
        try:
            event = doing.act(command)
        except Exception as error:  # noqa: BLE001 - the top of a thread: it becomes an event
            self.on_unforeseen(type(command).__name__, error)
            event = doing.failed(command, error)
        if event is not None:
            self.put(event)
