"""The parts of a running agent that shut it down: interruption notices, the control socket, and the drain."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.adapters.aws.notices import NoticeWatch, should_watch
from agent.adapters.clock import Clock
from agent.adapters.host.hardware_ids import read_hardware
from agent.adapters.kubernetes.drain import Drain
from agent.adapters.kubernetes.local import LocalKubernetes
from agent.adapters.local_api.control_socket import Control
from agent.adapters.storage.state_dir import StateDir
from agent.core.effects import ClearJobs, CordonNode, EndWorkers, ListWorkers, WriteStop
from agent.core.events import Event, JobsCleared, NodeCordoned, ShutdownRequested, StopWritten, WorkersListed
from agent.errors import TransientError
from agent.runtime.control_requests import event_for
from agent.runtime.identity import instance_id, kept_in_group
from agent.runtime.supervisor import Executor, Executors
from agent.settings import Settings

QUICK_S = 0.5
"""For the metadata service, where a person waits for the reply."""
NO_LOGIN = "BETA9_K3S=none: the agent does not manage the node and its workers"


class ShutdownHandling:
    """What runs beside the deciding thread to shut the agent down. `put` sends the core an event."""

    def __init__(  # noqa: PLR0913 - wired in one place, by keyword
        self,
        *,
        settings: Settings,
        state_dir: StateDir,
        directory: Path,
        kubernetes: LocalKubernetes,
        clock: Clock,
        put: Callable[[Event], None],
        degraded: dict[str, str],
    ) -> None:
        self._settings = settings
        self._state_dir = state_dir
        self._clock = clock
        self._put = put
        self._degraded = degraded
        self._drain = Drain(kubernetes.cluster) if kubernetes.cluster is not None else None
        self._control = Control(directory, self._request)
        self._watch: NoticeWatch | None = None
        endpoint = settings.metadata_endpoint
        if should_watch(settings.interruption.value, endpoint) and not settings.once:
            self._watch = NoticeWatch(endpoint, put, clock.now_s, clock.wall_s, random.random)

    def start(self) -> None:
        """Start listening for requests and watching for notices."""
        error = self._control.start()
        if error:
            self._degraded["control"] = error
        if self._watch is not None:
            self._watch.start()

    def stop(self) -> None:
        """Stop listening and watching."""
        self._control.close()
        if self._watch is not None:
            self._watch.stop()

    def executors(self) -> Executors:
        """Return the executors of the drain and the stop marker."""
        return {
            CordonNode: Executor(self._cordon, lambda c, e: NodeCordoned(c.is_cordoned, str(e))),
            ClearJobs: Executor(self._clear_jobs, lambda _, e: JobsCleared(error=str(e))),
            ListWorkers: Executor(self._list_workers, lambda c, e: WorkersListed(c.number, None, str(e))),
            EndWorkers: Executor(self._end_workers, lambda c, e: WorkersListed(c.number, None, str(e))),
            WriteStop: Executor(self._write_stop, lambda _, e: StopWritten(str(e))),
        }

    def _request(self, request: dict[str, Any]) -> str:
        event, text = event_for(request, self._clock.now_s())
        self._put(event)
        group = kept_in_group(self._settings, QUICK_S) if isinstance(event, ShutdownRequested) else ""
        return f"{text}; {group}" if group else text

    def _cordon(self, effect: CordonNode) -> Event:
        if self._drain is None:
            return NodeCordoned(effect.is_cordoned, NO_LOGIN)
        return self._drain.cordon(is_cordoned=effect.is_cordoned, timeout_s=effect.timeout_s)

    def _clear_jobs(self, effect: ClearJobs) -> Event:
        if self._drain is None:
            return JobsCleared()
        return self._drain.clear_jobs(effect.timeout_s)

    def _list_workers(self, effect: ListWorkers) -> Event:
        if self._drain is None:
            return WorkersListed(effect.number, None, NO_LOGIN)
        return self._drain.list_workers(effect.number, effect.timeout_s)

    def _end_workers(self, effect: EndWorkers) -> Event:
        if self._drain is None:
            return WorkersListed(effect.number, None, NO_LOGIN)
        return self._drain.end_workers(effect.number, effect.grace_s, effect.timeout_s)

    def _write_stop(self, effect: WriteStop) -> Event:
        try:
            self._state_dir.write_stop(
                effect.reason, instance_id(self._settings), self._clock.wall_s(), read_hardware()
            )
        except TransientError as error:
            return StopWritten(str(error))
        return StopWritten()
