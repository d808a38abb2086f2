"""The only loop: take events from one queue, ask the core what to do, and have it done.

One thread decides. Whatever may block (the network, a secret store, NVML, a child process) runs on its own thread and
reports back with an event, so that nothing slow ever delays a keepalive.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

from agent.core.effects import Effect, Exit
from agent.core.events import Event, Tick
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.step import step, wake_in_s
from agent.errors import ExitCode

STALLED_S = 30.0
"""A loop that has not turned for this long is stuck. `/healthz` checks nothing else."""


Effect_contra = TypeVar("Effect_contra", contravariant=True)


@dataclass(frozen=True)
class Executor(Generic[Effect_contra]):
    """Carries out one kind of effect: `act` returns an event, if any; `failed` makes one of an unforeseen error."""

    act: Callable[[Effect_contra], Event | None]
    failed: Callable[[Effect_contra, Exception], Event] | None = None
    """None: `act` is quick, so the deciding thread itself calls it."""


AnyExecutor = Executor[NoReturn]
"""An executor of some kind of effect. Only the key in `Executors` tells which, and the type checker cannot know it."""
Executors = dict[type, AnyExecutor]
"""By the class of the effect."""


class Supervisor:
    """Runs the loop. `run` returns when the core asks for Exit.

    `on_step` is called after every step, with the state before and after it. `jitter` returns a uniform random number
    in [0, 1).
    """

    def __init__(  # noqa: PLR0913 - wired in one place, by keyword
        self,
        state: AgentState,
        policy: Policy,
        events: queue.SimpleQueue[Event],
        *,
        executors: Mapping[type, AnyExecutor],
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
        """Queue an event. Safe to call from any thread and from a signal handler."""
        self._events.put(event)

    def run(self) -> ExitCode:
        """Process events until the core decides to exit."""
        self._take(Tick())
        while self.exit is None:
            try:
                event = self._events.get(timeout=wake_in_s(self.state, self._now_s()))
            except queue.Empty:
                event = Tick()
            self._take(event)
        return self.exit.exit_code

    def is_live(self) -> bool:
        """Return whether the loop is running. Ignores the gateway, because a restart would not help with that."""
        return self._now_s() - self._turned_at_s < STALLED_S

    def _take(self, event: Event) -> None:
        now_s = self._turned_at_s = self._now_s()
        before = self.state
        self.state, effects = step(before, event, now_s, self._policy, self._jitter())
        self._on_step(before, self.state, event, now_s)
        for effect in effects:
            self._execute(effect)

    def _execute(self, effect: Effect) -> None:
        if isinstance(effect, Exit):
            self.exit = effect
            return
        executor = self._executors[type(effect)]
        if executor.failed is None:
            executor.act(effect)  # type: ignore[arg-type]  # the effect is of its executor's kind
            return
        try:
            name = type(effect).__name__
            arguments = (executor.act, executor.failed, effect)
            threading.Thread(target=self._run_in_thread, args=arguments, name=name, daemon=True).start()
        except RuntimeError as error:  # out of threads
            self.put(executor.failed(effect, error))  # type: ignore[arg-type]

    def _run_in_thread(
        self,
        act: Callable[[Effect], Event | None],
        failed: Callable[[Effect, Exception], Event],
        effect: Effect,
    ) -> None:
        try:
            event = act(effect)
        except Exception as error:  # noqa: BLE001 - the top of a thread: it becomes an event
            self._on_unforeseen(type(effect).__name__, error)
            event = failed(effect, error)
        if event is not None:
            self.put(event)
