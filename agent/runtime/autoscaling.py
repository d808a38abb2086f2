"""Tells an EC2 Auto Scaling group how its machine fares, on a thread of its own: nothing here delays a keepalive.

What is said is decided by agent/core/cloud/lifecycle_hooks.py; a machine in no group has none of this.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

from agent.adapters.aws import imds
from agent.adapters.aws.autoscaling import Autoscaling
from agent.core.cloud import lifecycle_hooks
from agent.core.cloud.lifecycle_hooks import GroupSignal
from agent.core.state import AgentState
from agent.errors import AgentError, SettingsError, TransientError
from agent.observability.logs import EventLog
from agent.settings import Settings
from agent.settings.values import LifecycleHook

AGAIN_S = 15.0
LAST_WORD_S = 20.0
"""How long the end of the agent waits for its last signal to be said; the service manager gives 110 s in all."""
Open = Callable[[str], Autoscaling]


class AutoscalingReporter:
    """Sends each signal once. `open_for` makes the adapter for a setting, which may take a second."""

    def __init__(self, settings: Settings, log: EventLog, open_for: Open) -> None:
        self._settings = settings
        self._log = log
        self._open_for = open_for
        self._due: queue.SimpleQueue[GroupSignal | None] = queue.SimpleQueue()
        self._told: set[GroupSignal] = set()
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    def on_step(self, state: AgentState) -> None:
        """Called after every step, by the deciding thread."""
        due = lifecycle_hooks.signal_due(state)
        if due is None or due in self._told or self._hook(due) is None:
            return
        self._told.add(due)
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="autoscaling", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread can be had: the hook's own time-out decides
                self._thread.start()
        self._due.put(due)

    def close(self) -> None:
        """Let what is due be said, for a while, and say nothing more."""
        self._ends.set()
        self._due.put(None)
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(LAST_WORD_S)

    def _hook(self, signal: GroupSignal) -> LifecycleHook | None:
        settings = self._settings
        return settings.aws_termination_hook if signal is GroupSignal.DRAINED else settings.aws_launch_hook

    def _send_all(self) -> None:
        while (signal := self._due.get()) is not None:
            while not self._sent(signal):
                # Towards the end, or with something newer to say, once must do.
                if self._ends.wait(AGAIN_S) or not self._due.empty():
                    break

    def _sent(self, signal: GroupSignal) -> bool:
        """Whether it was said, or never can be."""
        try:
            self._send(signal)
        except SettingsError as error:
            self._log.warning("group_trouble", text=str(error))
            return True
        except AgentError as error:
            self._log.warning("group_trouble", text=str(error))
            return False
        return True

    def _send(self, signal: GroupSignal) -> None:
        hook = self._hook(signal)
        assert hook is not None  # noqa: S101 - `look` asked
        setting = "BETA9_AWS_TERMINATION_HOOK" if signal is GroupSignal.DRAINED else "BETA9_AWS_LAUNCH_HOOK"
        speaker = self._open_for(setting)
        result = "ABANDON" if signal is GroupSignal.USELESS else "CONTINUE"
        done = speaker.complete(hook, result)
        if signal is GroupSignal.USELESS and not done:
            # It had joined before this start: the group must hear it otherwise.
            speaker.mark_unhealthy()
            result, done = "Unhealthy", True
        if done:
            self._log.info("group_told", word=signal.value, hook=str(hook), result=result)


def autoscaling_reporter(
    settings: Settings, log: EventLog, instance: Callable[[], str]
) -> AutoscalingReporter | None:
    """Return what speaks to this machine's group; None where no hook is set. `instance` looks the id up, once asked."""
    if settings.aws_launch_hook is None and settings.aws_termination_hook is None:
        return None

    def open_for(setting: str) -> Autoscaling:
        found = instance()
        if not found and imds.is_amazon():
            raise TransientError(
                f"{setting}: the instance metadata service does not answer just now; asked again soon"
            )
        if not found:
            raise SettingsError(f"{setting}: this is no EC2 instance (no metadata service answers); unset it")
        return Autoscaling(setting, settings.metadata_endpoint, found)

    return AutoscalingReporter(settings, log, open_for)
