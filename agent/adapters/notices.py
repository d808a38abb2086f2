"""Watches EC2's instance metadata service for notices of this machine's end; only ever puts events on the queue.

A thread of its own: an answer that is slow, wrong or missing delays nothing but the next look. An event is made
when what is announced changes, never for a failure.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from agent.adapters import metadata
from agent.core import interruption
from agent.core.events import Noticed
from agent.core.interruption import MAINTENANCE, NOTHING, Notice

INTERVAL_S = 2.0
TIMEOUT_S = 1.5
TOKEN_TTL_S = 21_600
"""The longest that IMDSv2 grants; a 401 ends it earlier."""
MAINTENANCE_EVERY = 15
"""Rounds: maintenance is announced days ahead."""
_DATA = "/latest/meta-data/"


class UnansweredError(Exception):
    """The service gave no usable answer; nothing is known anew."""


class MetadataSession:
    """Asks for documents with a cached IMDSv2 token, over one connection that is kept."""

    def __init__(self, endpoint: str, timeout_s: float = TIMEOUT_S) -> None:
        self._url = urlsplit(endpoint)
        self._timeout_s = timeout_s
        self._token: str | None = None
        self._connection: http.client.HTTPConnection | None = None

    def document(self, name: str) -> str | None:
        """A document's text, None where it is absent (404). Raises: UnansweredError."""
        for _ in range(2):
            if self._token is None:
                self._token = self._new_token()
            status, text = self._ask("GET", _DATA + name, {"X-aws-ec2-metadata-token": self._token})
            if status == 200:
                return text
            if status == 404:
                return None
            if status != 401:
                raise UnansweredError(f"{name} was answered with {status}")
            self._token = None  # expired, or another machine's (a restored image)
        raise UnansweredError(f"{name} was answered with 401 to a fresh token")

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _new_token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
        status, text = self._ask("PUT", "/latest/api/token", headers)
        if status != 200 or not text.isascii() or not text.isprintable() or not 0 < len(text) <= 1024:
            raise UnansweredError(f"the token was answered with {status}")
        return text

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        is_kept = self._connection is not None
        try:
            return self._once(method, path, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            if not is_kept or isinstance(error, TimeoutError):
                raise UnansweredError(str(error) or type(error).__name__) from error
        # A connection that was kept may have been closed meanwhile: that says nothing about the service.
        try:
            return self._once(method, path, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise UnansweredError(str(error) or type(error).__name__) from error

    def _once(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        end_s = time.monotonic() + self._timeout_s
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(self._url.hostname or "", self._url.port, timeout=self._timeout_s)
        self._connection.request(method, self._url.path + path, headers=headers)
        answer = self._connection.getresponse()
        body = bytearray()
        while chunk := answer.read1(4096):
            body += chunk
            if len(body) > interruption.LIMIT_CHARS or time.monotonic() > end_s:
                raise http.client.HTTPException("too long an answer, or too slow a one")
        if answer.will_close:
            self.close()
        return answer.status, body.decode("utf-8").strip()


class NoticeWatch:
    """The thread. `emit` puts an event on the agent's queue; `now_s` is the clock of deadlines."""

    def __init__(
        self,
        endpoint: str,
        emit: Callable[[Noticed], None],
        now_s: Callable[[], float],
        wall_s: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._session = MetadataSession(endpoint)
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
        self._emit(Noticed(notice.kind, notice.reason, deadline_at_s, notice.comes_back))


def is_heeded(choice: str, endpoint: str) -> bool:
    """Whether there is anything to watch: as told, or by where this machine runs."""
    if choice == "auto":
        return endpoint != metadata.DEFAULT_ENDPOINT or metadata.is_amazon()
    return choice == "aws"
