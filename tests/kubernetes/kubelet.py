"""The part of a kubelet that a drain depends on: pods on the node run, and end when they are told to."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import Any

from tests.kubernetes.server import MERGE, PODS, RealKubernetes

_PERIOD_S = 0.1


class Kubelet:
    """Reports the real server's pods as running and, `stop_s` after they were told to end, as gone."""

    def __init__(self, api: RealKubernetes, stop_s: float = 0.3) -> None:
        self.stop_s = stop_s
        self._api = api
        self._told_at_s: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    def __enter__(self) -> Kubelet:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(30)

    def running(self) -> list[str]:
        """Return the names of the pods that run and were not told to end."""
        return [name for name, pod in self._pods().items() if is_running(pod)]

    def _run(self) -> None:
        while not self._ended.wait(_PERIOD_S):
            with contextlib.suppress(OSError):  # the server is frozen or gone: later
                for name, pod in self._pods().items():
                    self._see(name, pod)

    def _see(self, name: str, pod: dict[str, Any]) -> None:
        if not pod["spec"].get("nodeName"):
            return
        if pod["metadata"].get("deletionTimestamp"):
            if time.monotonic() >= self._told_at_s.setdefault(name, time.monotonic()) + self.stop_s:
                self._api.ask("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
        elif pod["status"].get("phase") == "Pending":
            self._api.ask("PATCH", f"{PODS}/{name}/status", {"status": {"phase": "Running"}}, content=MERGE)

    def _pods(self) -> dict[str, dict[str, Any]]:
        return {pod["metadata"]["name"]: pod for pod in self._api.ask("GET", PODS)[1]["items"]}


def is_running(pod: dict[str, Any]) -> bool:
    """Whether a pod runs and was not told to end."""
    return pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
