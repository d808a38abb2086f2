"""The parts of a running agent that make it leave: notices, the control socket, and what emptying the node takes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.adapters.aws.notices import NoticeWatch, is_heeded
from agent.adapters.clock import Clock
from agent.adapters.kubernetes.drain import Drain
from agent.adapters.kubernetes.local import LocalKubernetes
from agent.adapters.local_api.control_socket import Control
from agent.adapters.storage.state_dir import StateDir
from agent.core.effects import CordonNode, EndWorkers, ListWorkers, WriteStop
from agent.core.events import Event, NodeCordoned, StopWritten, WorkersListed
from agent.errors import TransientError
from agent.runtime.control_requests import event_for
from agent.runtime.identity import instance_id
from agent.runtime.supervisor import Executor
from agent.settings import Settings

NO_LOGIN = "BETA9_K3S=none: node and workers are not seen to from here"


@dataclass
class ShutdownHandling:
    """What runs beside the deciding thread for the sake of leaving; `put` gives the core an event."""

    settings: Settings
    state: StateDir
    directory: Path
    kubernetes: LocalKubernetes
    clock: Clock
    put: Callable[[Event], None]
    degraded: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cluster = self.kubernetes.cluster
        self._drain = Drain(cluster) if cluster is not None else None
        self._control = Control(self.directory, self._wish)
        self._watch: NoticeWatch | None = None
        endpoint = self.settings.metadata_endpoint
        if is_heeded(self.settings.interruption.value, endpoint) and not self.settings.once:
            self._watch = NoticeWatch(endpoint, self.put, self.clock.now_s, self.clock.wall_s, random.random)

    def start(self) -> None:
        """Listen and watch."""
        trouble = self._control.start()
        if trouble:
            self.degraded["control"] = trouble
        if self._watch is not None:
            self._watch.start()

    def stop(self) -> None:
        """Neither any more."""
        self._control.close()
        if self._watch is not None:
            self._watch.stop()

    def executors(self) -> dict[type, Executor]:
        """How the core's commands about leaving are carried out."""
        return {
            CordonNode: Executor(self._cordon, lambda c, e: NodeCordoned(c.is_cordoned, str(e))),
            ListWorkers: Executor(self._look, lambda c, e: WorkersListed(c.number, None, str(e))),
            EndWorkers: Executor(self._end, lambda c, e: WorkersListed(c.number, None, str(e))),
            WriteStop: Executor(self._write_stop, lambda _, e: StopWritten(str(e))),
        }

    def _wish(self, wish: dict[str, Any]) -> str:
        event, text = event_for(wish, self.clock.now_s())
        self.put(event)
        return text

    def _cordon(self, command: CordonNode) -> Event:
        if self._drain is None:
            return NodeCordoned(command.is_cordoned, NO_LOGIN)
        return self._drain.cordon(is_cordoned=command.is_cordoned, timeout_s=command.timeout_s)

    def _look(self, command: ListWorkers) -> Event:
        if self._drain is None:
            return WorkersListed(command.number, None, NO_LOGIN)
        return self._drain.look(command.number, command.timeout_s)

    def _end(self, command: EndWorkers) -> Event:
        if self._drain is None:
            return WorkersListed(command.number, None, NO_LOGIN)
        return self._drain.end(command.number, command.grace_s, command.timeout_s)

    def _write_stop(self, command: WriteStop) -> Event:
        try:
            self.state.write_stop(command.reason, instance_id(self.settings), self.clock.wall_s())
        except TransientError as error:
            return StopWritten(str(error))
        return StopWritten()
