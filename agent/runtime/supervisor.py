"""The only loop: take events from one queue, ask the core what to do, have it done.

One thread decides. Whatever may wait (the network, a secret store, NVML, a child process) does so on a thread
of its own and comes back as an event, so that nothing slow ever delays a keepalive.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agent.core.effects import Effect, Exit
from agent.core.events import Event, Tick
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.step import step, wake_in_s
from agent.errors import ExitCode

STALLED_S = 30.0
"""A loop that did not turn for this long is stuck; it is `/healthz`'s only measure."""


class Action(Protocol):
    """Carries one kind of effect out."""

    def __call__(self, effect: Any, /) -> Event | None:
        """Do it; what came of it, if anything, is an event."""


@dataclass(frozen=True)
class Executor:
    """How one kind of effect is carried out: `act` does it, `failed` is what an unforeseen error becomes."""

    act: Action
    failed: Callable[[Any, Exception], Event] | None = None
    """None: `act` is quick and is called by the deciding thread itself."""


class Supervisor:
    """The agent at work. `run` returns when the core says Exit.

    `on_step` is called after every step, with the state before and after it. `jitter` draws evenly from [0, 1).
    """

    def __init__(  # noqa: PLR0913 - wired in one place, by keyword
        self,
        state: AgentState,
        policy: Policy,
        events: queue.SimpleQueue[Event],
        *,
        executors: Mapping[type, Executor],
        on_step: Callable[[AgentState, AgentState, Event, float], None],
        now_s: Callable[[], float],
        jitter: Callable[[], float],
        on_unforeseen: Callable[[str, Exception], None],
    ) -> None:
        self.state = state
        self.exit: Exit | None = None
        self._policy = policy
        self._executors = executors
        self._events = events
        self._on_step = on_step
        self._now_s = now_s
        self._jitter = jitter
        self._on_unforeseen = on_unforeseen
        self._turned_at_s = 0.0

    def put(self, event: Event) -> None:
        """Tell the agent that something happened. Safe from any thread, and from a signal handler."""
        self._events.put(event)

    def run(self) -> ExitCode:
        """Turn until the end is decided."""
        self._take(Tick())
        while self.exit is None:
            try:
                event = self._events.get(timeout=wake_in_s(self.state, self._now_s()))
            except queue.Empty:
                event = Tick()
            self._take(event)
        return self.exit.exit_code

    def is_live(self) -> bool:
        """Return whether the loop turns. Says nothing about the gateway: restarting us would not help that."""
        return self._now_s() - self._turned_at_s < STALLED_S

    def _take(self, event: Event) -> None:
        now_s = self._turned_at_s = self._now_s()
        before = self.state
        self.state, effects = step(before, event, now_s, self._policy, self._jitter())
        self._on_step(before, self.state, event, now_s)
        for effect in effects:
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, Exit):
            self.exit = effect
            return
        executor = self._executors[type(effect)]
        if executor.failed is None:
            executor.act(effect)
            return
        try:
            name = type(effect).__name__
            arguments = (executor.act, executor.failed, effect)
            threading.Thread(target=self._run_in_thread, args=arguments, name=name, daemon=True).start()
        except RuntimeError as error:  # no more threads can be had just now
            self.put(executor.failed(effect, error))

    def _run_in_thread(self, act: Action, failed: Callable[[Any, Exception], Event], effect: Effect) -> None:
        try:
            event = act(effect)
        except Exception as error:  # noqa: BLE001 - the top of a thread: it becomes an event
            self._on_unforeseen(type(effect).__name__, error)
            event = failed(effect, error)
        if event is not None:
            self.put(event)
