"""Watches EC2's instance metadata service for interruption notices and turns them into events.

Runs on its own thread, so a slow, wrong or missing reply delays nothing but the next poll. Only a change of what is
announced makes an event, never a failure.
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
"""Polls between two looks at scheduled maintenance, which is announced days ahead."""


class NoticeWatch:
    """The watching thread. `emit` puts an event on the agent's queue; `now_s` is the clock for deadlines."""

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
        self._last_notice = NOTHING
        self._round = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="notices", daemon=True)

    def start(self) -> None:
        """Start watching."""
        with contextlib.suppress(
            RuntimeError
        ):  # out of threads: the agent runs without notices, as outside of AWS
            self._thread.start()

    def stop(self) -> None:
        """Stop watching. A request in flight ends by its own time limit."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self.poll()
            # Spread evenly around the interval: a thousand machines of one group may have started in the same second.
            self._stopped.wait(INTERVAL_S * (0.75 + self._jitter() / 2))
        self._session.close()

    def poll(self) -> None:
        """Read the documents once and emit what has changed."""
        names = [name for name in interruption.DOCUMENTS if name != MAINTENANCE or self._is_maintenance_due()]
        self._round += 1
        for name in names:
            try:
                self._documents[name] = self._session.document(name)
            except UnansweredError:
                break  # keep what is known; each further document would only cost another time-out
            if name == interruption.SPOT:
                self._emit_change(only_worse=True)
        else:
            self._emit_change(only_worse=False)
            return
        self._emit_change(only_worse=True)

    def _is_maintenance_due(self) -> bool:
        return self._round % MAINTENANCE_EVERY == 0

    def _emit_change(self, *, only_worse: bool) -> None:
        """Emit an event if the notice has changed. Only a complete poll may lift a notice."""
        notice: Notice = interruption.read(self._documents, self._wall_s())
        if notice.is_same(self._last_notice) or (only_worse and notice is NOTHING):
            return
        self._last_notice = notice
        deadline_at_s = None if notice.in_s is None else self._now_s() + notice.in_s
        self._emit(NoticeReceived(notice.kind, notice.reason, deadline_at_s, notice.comes_back))


def should_watch(choice: str, endpoint: str) -> bool:
    """Return whether to watch for notices: as configured, or with "auto" if this machine runs on AWS."""
    if choice == "auto":
        return endpoint != imds.DEFAULT_ENDPOINT or imds.is_amazon()
    return choice == "aws"
