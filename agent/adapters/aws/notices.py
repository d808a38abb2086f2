"""Watches EC2's instance metadata service for notices of this machine's end; only ever puts events on the queue.

A thread of its own: an answer that is slow, wrong or missing delays nothing but the next look. An event is made
when what is announced changes, never for a failure.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from agent.adapters.aws import imds
from agent.adapters.aws.imds import MetadataSession, UnansweredError
from agent.core.cloud import interruption
from agent.core.cloud.interruption import MAINTENANCE, NOTHING, Notice
from agent.core.events import NoticeReceived

INTERVAL_S = 2.0
TIMEOUT_S = 1.5
MAINTENANCE_EVERY = 15
"""Rounds: maintenance is announced days ahead."""


class NoticeWatch:
    """The thread. `emit` puts an event on the agent's queue; `now_s` is the clock of deadlines."""

    def __init__(
        self,
        endpoint: str,
        emit: Callable[[NoticeReceived], None],
        now_s: Callable[[], float],
        wall_s: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._session = MetadataSession(endpoint, TIMEOUT_S)
        self._emit = emit
        self._now_s, self._wall_s, self._jitter = now_s, wall_s, jitter
        self._documents: dict[str, str | None] = {}
        self._told = NOTHING
        self._round = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="notices", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        with contextlib.suppress(RuntimeError):  # no thread can be had: without notices, as on other machines
            self._thread.start()

    def stop(self) -> None:
        """Watch no longer; a request under way is left to its own time limit."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self.look()
            # Even spread around the interval: a thousand machines of one group started in the same second.
            self._stopped.wait(INTERVAL_S * (0.75 + self._jitter() / 2))
        self._session.close()

    def look(self) -> None:
        """One round."""
        wanted = [name for name in interruption.DOCUMENTS if name != MAINTENANCE or self._is_turn()]
        self._round += 1
        for name in wanted:
            try:
                self._documents[name] = self._session.document(name)
            except UnansweredError:
                break  # what was known stays; the others would only cost a time-out each
            if name == interruption.SPOT:
                self._tell(only_worse=True)
        else:
            self._tell(only_worse=False)
            return
        self._tell(only_worse=True)

    def _is_turn(self) -> bool:
        return self._round % MAINTENANCE_EVERY == 0

    def _tell(self, *, only_worse: bool) -> None:
        """An event, if what is announced has changed. What was announced is lifted only after a whole round."""
        notice: Notice = interruption.read(self._documents, self._wall_s())
        if notice.is_same(self._told) or (only_worse and notice is NOTHING):
            return
        self._told = notice
        deadline_at_s = None if notice.in_s is None else self._now_s() + notice.in_s
        self._emit(NoticeReceived(notice.kind, notice.reason, deadline_at_s, notice.comes_back))


def is_heeded(choice: str, endpoint: str) -> bool:
    """Whether there is anything to watch: as told, or by where this machine runs."""
    if choice == "auto":
        return endpoint != imds.DEFAULT_ENDPOINT or imds.is_amazon()
    return choice == "aws"
