"""Reads the GPUs from NVML through a child process, so that NVML can neither hang nor crash the agent.

A child that does not answer in time, or dies, is killed, and another is started after a growing pause. Until then the
last known boards are returned, with the problem.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agent
from agent.adapters.nvidia.nvml_library import MISSING_DRIVER, device_found, library_found
from agent.adapters.process.run import Child, clean_environment, describe_exit, spawn
from agent.core.host.facts import GpuReading
from agent.core.host.gpu_health import Inventory, observe
from agent.errors import AgentError, TransientError

READ_TIMEOUT_S = 5.0
START_TIMEOUT_S = 60.0
"""Initialising NVML takes seconds per board if no persistence daemon keeps the driver loaded."""
PAUSES_S = (5.0, 10.0, 30.0, 60.0, 300.0)
"""Pauses before the next child, after one, two, … consecutive failures."""
GRACE_S = 1.0


class GpuReader:
    """Reads the boards. Only one thread at a time may use it; `read` may take `timeout_s`."""

    def __init__(  # noqa: PLR0913 - tests replace what a host without GPUs cannot show
        self,
        timeout_s: float = READ_TIMEOUT_S,
        start_timeout_s: float = START_TIMEOUT_S,
        *,
        now_s: Callable[[], float] = time.monotonic,
        library: Callable[[], bool] = library_found,
        device: Callable[[], bool] = device_found,
        driver_appeared: Callable[[], bool] = lambda: False,
    ) -> None:
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._now_s = now_s
        self._library = library
        self._device = device
        self._driver_appeared = driver_appeared
        self._inventory = Inventory()
        self._conversation: _Conversation | None = None
        self._killed: Child | None = None
        self._failures = 0
        self._not_before_s = 0.0
        self._problem: str | None = None

    def read(self) -> GpuReading:
        """Return the current boards, or the last known ones with the problem. Without NVIDIA's library there are none.

        Never raises, and never takes much longer than `timeout_s`.
        """
        if self._conversation is None:
            self._problem = self._start()
        if self._conversation is not None:
            try:
                self._inventory = observe(self._inventory, self._conversation.boards(self._timeout_s))
                self._failures, self._problem = 0, None
            except _StartingError as starting:
                self._problem = str(starting)
            except TransientError as error:
                self._give_up(str(error))
        # The container runtime adds the library when it creates a container, so this one will never have it.
        is_late = self._conversation is None and self._driver_appeared() and not self._library()
        return GpuReading(self._inventory.gpus, self._problem, driver_appeared=is_late)

    @property
    def pid(self) -> int | None:
        """The child's pid, None while there is no child."""
        return None if self._conversation is None else self._conversation.child.pid

    def close(self) -> None:
        """Stop the child."""
        if self._conversation is not None:
            self._conversation.child.stop(GRACE_S)
            self._conversation = None

    def _start(self) -> str | None:
        """Start a child if it is time. Return why there is none (None: there are no GPUs to read)."""
        if self._now_s() < self._not_before_s:
            return self._problem
        if self._killed is not None and self._killed.code is None:  # stuck children must not pile up
            return "NVML's process is stuck in the kernel and cannot be killed: reboot"
        if not self._library():
            return MISSING_DRIVER if self._device() else self._lost_library()
        try:
            self._conversation = _Conversation(self._start_timeout_s)
        except AgentError as error:
            self._give_up(str(error))
        return self._problem

    def _lost_library(self) -> str | None:
        return "NVIDIA's library has disappeared from this machine" if self._inventory.gpus else None

    def _give_up(self, problem: str) -> None:
        pause_s = PAUSES_S[min(self._failures, len(PAUSES_S) - 1)]
        self._failures += 1
        self._problem = problem
        self._not_before_s = self._now_s() + pause_s
        if self._conversation is not None:
            self._conversation.child.stop(0)  # it hangs: SIGTERM would only add another wait
            self._killed, self._conversation = self._conversation.child, None


class _StartingError(TransientError):
    """NVML is still being initialised."""


class _Conversation:
    """One child, and the requests to it and messages from it."""

    def __init__(self, start_timeout_s: float) -> None:
        self._messages: queue.SimpleQueue[dict[str, Any] | int] = queue.SimpleQueue()
        self._start_by_s = time.monotonic() + start_timeout_s
        self._ready = False
        self._last_id = 0
        self.child: Child = spawn(
            [sys.executable, "-m", "agent.adapters.nvidia.nvml_child"],
            name="nvml",
            on_stdout=self._on_line,
            on_exit=self._messages.put,
            env=clean_environment({"PYTHONPATH": _python_path(), "PYTHONUNBUFFERED": "1"}),
        )

    def boards(self, timeout_s: float) -> list[dict[str, Any]]:
        """Request the boards and wait. Raises: _StartingError; TransientError if this child is of no further use."""
        deadline_s = time.monotonic() + timeout_s
        self._await_ready(deadline_s)
        self._last_id += 1
        if self.child.send_line(json.dumps({"id": self._last_id})):
            while True:
                message = self._next(deadline_s)
                if message is None:
                    raise TransientError(f"NVML gave no answer for {timeout_s:g} s")
                if message.get("id") == self._last_id and "boards" in message:
                    return list(message["boards"])
        self._next(deadline_s)  # the child no longer reads: its last message is the reason
        raise TransientError("NVML's process no longer accepts requests")

    def _await_ready(self, deadline_s: float) -> None:
        while not self._ready:
            message = self._next(deadline_s)
            if message is None and time.monotonic() >= self._start_by_s:
                raise TransientError("NVML did not start in time")
            if message is None:
                raise _StartingError("NVML is starting; the boards are not known yet")
            self._ready = bool(message.get("ready"))

    def _next(self, deadline_s: float) -> dict[str, Any] | None:
        """Return the next message, or None if none came in time. Raises: TransientError for an error or the end."""
        try:
            message = self._messages.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            return None
        if isinstance(message, int):
            last_line = f": {self.child.tail[-1]}" if self.child.tail else ""
            raise TransientError(f"NVML's process ended, {describe_exit(message)}{last_line}")
        if "error" in message:
            raise TransientError(f"NVML: {message['error']}")
        return message

    def _on_line(self, line: str) -> None:
        try:
            message = json.loads(line)
        except ValueError:  # cut off by a crash; the end of the child is reported next
            return
        if isinstance(message, dict):
            self._messages.put(message)


def _python_path() -> str:
    """Return a PYTHONPATH with which the child finds this package, whatever the working directory."""
    root = str(Path(agent.__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
