"""Sends lifecycle signals to this machine's EC2 Auto Scaling group, on its own thread so that no keepalive is delayed.

agent/core/cloud/lifecycle_hooks.py decides which signal is due. A machine in no group has no reporter.
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
"""How long the agent's end waits for the last signal; the service manager allows 110 s in all."""
Open = Callable[[str], Autoscaling]


class AutoscalingReporter:
    """Sends each signal once. `open_for` creates the adapter for a setting, which may take a second."""

    def __init__(self, settings: Settings, log: EventLog, open_for: Open) -> None:
        self._settings = settings
        self._log = log
        self._open_for = open_for
        self._due: queue.SimpleQueue[GroupSignal | None] = queue.SimpleQueue()
        self._queued: set[GroupSignal] = set()
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    def on_step(self, state: AgentState) -> None:
        """Queue the signal that is due, if any. Called after every step, by the deciding thread."""
        due = lifecycle_hooks.signal_due(state)
        if due is None or due in self._queued or self._hook(due) is None:
            return
        self._queued.add(due)
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="autoscaling", daemon=True)
            with contextlib.suppress(RuntimeError):  # out of threads: the hook's own time-out decides
                self._thread.start()
        self._due.put(due)

    def close(self) -> None:
        """Wait a while for queued signals to be sent, then stop."""
        self._ends.set()
        self._due.put(None)
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(LAST_WORD_S)

    def _hook(self, signal: GroupSignal) -> LifecycleHook | None:
        settings = self._settings
        return settings.aws_termination_hook if signal is GroupSignal.DRAINED else settings.aws_launch_hook

    def _send_all(self) -> None:
        while (signal := self._due.get()) is not None:
            while not self._try_send(signal):
                # No retry at the end of the agent, or when a newer signal is waiting.
                if self._ends.wait(AGAIN_S) or not self._due.empty():
                    break

    def _try_send(self, signal: GroupSignal) -> bool:
        """Send a signal. Return False if it is worth a retry."""
        try:
            self._send(signal)
        except SettingsError as error:
            self._log.warning("group_trouble", text=str(error))
            return True
        except AgentError as error:
            self._log.warning("group_trouble", text=str(error))
            return False
        except Exception as error:  # noqa: BLE001 - the top of a thread that must not end: it is logged, and retried
            self._log.error("unforeseen", error=error, during="autoscaling")
            return False
        return True

    def _send(self, signal: GroupSignal) -> None:
        hook = self._hook(signal)
        assert hook is not None  # noqa: S101 - `on_step` has checked it
        setting = "BETA9_AWS_TERMINATION_HOOK" if signal is GroupSignal.DRAINED else "BETA9_AWS_LAUNCH_HOOK"
        group = self._open_for(setting)
        result = "ABANDON" if signal is GroupSignal.USELESS else "CONTINUE"
        done = group.complete(hook, result)
        if signal is GroupSignal.USELESS and not done:
            # Its launch was completed before this start, so tell the group in another way.
            group.mark_unhealthy()
            result, done = "Unhealthy", True
        if done:
            self._log.info("group_told", word=signal.value, hook=str(hook), result=result)


def autoscaling_reporter(
    settings: Settings, log: EventLog, instance: Callable[[], str]
) -> AutoscalingReporter | None:
    """Return the reporter for this machine's group, or None if no hook is set. `instance` looks the instance id up."""
    if settings.aws_launch_hook is None and settings.aws_termination_hook is None:
        return None

    def open_for(setting: str) -> Autoscaling:
        instance_id = instance()
        if not instance_id and imds.is_amazon():
            raise TransientError(
                f"{setting}: the instance metadata service does not answer just now; will retry"
            )
        if not instance_id:
            raise SettingsError(
                f"{setting}: this is not an EC2 instance (no metadata service answers); unset it"
            )
        return Autoscaling(setting, settings.metadata_endpoint, instance_id)

    return AutoscalingReporter(settings, log, open_for)
