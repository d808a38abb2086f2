"""The gateway's machine API over HTTP: one call, one Outcome, never an exception, always within its deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.adapters.gateway.http_session import HttpSession
from agent.core.machine_api.model import CallKind
from agent.core.machine_api.wire import KEEPALIVE_PATH, REGISTER_PATH, Outcome, OutcomeKind, read_reply
from agent.errors import RejectedError, SettingsError, TransientError
from agent.settings.values import bracketed

if TYPE_CHECKING:
    import requests

REPLY_LIMIT_BYTES = 256 * 1024
"""A reply to a registration carries the gateway's configuration, some 13 kB; twenty times that is no reply."""

_GIVEN_UP = Outcome(OutcomeKind.NO_ANSWER, "given up: another call took its place")


class Gateway:
    """Calls to the gateway, on one kept connection.

    One call at a time: a call that is still under way when the next one begins was given up by the core (its
    time limit passed, or a drain began); it is hung up, so that two never share a connection.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: Callable[[bool], str],
        connect_timeout_s: float,
        dialled: Callable[[], str] | None = None,
    ) -> None:
        """`token(fresh)` gives the machine token; with `fresh` it is resolved anew.

        It may raise RejectedError, SettingsError or TransientError. `dialled()` gives the address to dial now, where
        the host's name is not for a resolver.
        """
        self.url = _url(host, port)
        self._host = f"{bracketed(host)}:{port}"
        self._port, self._address = port, dialled
        self._token = token
        self._connect_timeout_s = connect_timeout_s
        self._lock = threading.Lock()
        self._idle: HttpSession | None = None
        self._current: _Call | None = None
        self._latest = 0

    def call(
        self,
        kind: CallKind,
        body: dict[str, Any],
        timeout_s: float,
        *,
        fresh_secret: bool = False,
        number: int = 0,
    ) -> Outcome:
        """Make one call and say what came of it; `timeout_s` bounds it all, however slowly bytes trickle.

        `number` grows from call to call: one whose thread comes late, after a newer one's, is not made.
        """
        began_s = time.monotonic()
        mine = self._begin(began_s + timeout_s, number)
        if mine is None:
            return _GIVEN_UP
        try:
            outcome = self._ask(mine, kind, body, fresh_secret)
        finally:
            self._end(mine)
        return replace(outcome, took_s=time.monotonic() - began_s)

    def prepare(self) -> None:
        """Load what a call needs, ahead of the first."""
        session = HttpSession()
        with self._lock:
            if self._idle is None and self._current is None:
                self._idle = session

    def abandon(self) -> None:
        """Hang up the call that is under way, if any; it makes no further attempt."""
        with self._lock:
            abandoned, self._current = self._current, None
        if abandoned is not None:
            abandoned.abandon()

    def close(self) -> None:
        """Hang up, and drop the kept connection."""
        self.abandon()
        with self._lock:
            idle, self._idle = self._idle, None
        if idle is not None:
            idle.close()

    def _begin(self, deadline_s: float, number: int) -> _Call | None:
        with self._lock:
            if number < self._latest:
                return None
            before, self._latest = self._current, number
            self._current = mine = _Call(deadline_s, self._idle)
            self._idle = None
        if before is not None:
            before.abandon()
        return mine

    def _end(self, mine: _Call) -> None:
        with self._lock:
            ours = self._current is mine
            if ours:
                self._current, self._idle = None, mine.session
        if not ours:
            mine.drop()

    def _ask(self, mine: _Call, kind: CallKind, body: dict[str, Any], fresh_secret: bool) -> Outcome:
        try:
            token = self._token(fresh_secret)
        except RejectedError as error:
            return Outcome(OutcomeKind.SECRET, str(error))
        except SettingsError as error:
            return Outcome(OutcomeKind.UNUSABLE, str(error))
        except TransientError as error:
            return Outcome(OutcomeKind.NO_ANSWER, str(error))
        return self._post(mine, kind, body, token)

    def _post(self, mine: _Call, kind: CallKind, body: dict[str, Any], token: str) -> Outcome:
        from http.client import HTTPException

        import requests
        from urllib3.exceptions import HTTPError

        for attempt in (1, 2):
            session = mine.open()
            if session is None:
                return _GIVEN_UP
            used_before = session.used
            began_s = time.monotonic()
            try:
                return self._once(session, kind, body, token, mine.deadline_s)
            except requests.exceptions.ConnectionError as error:
                mine.drop()
                # A kept connection may have died with an old tunnel, which shows only now. Both calls may be
                # repeated safely, so ask once more on a new connection, unless time passed: that was a time-out.
                quick = time.monotonic() - began_s < 1.0
                if attempt == 1 and used_before and quick and time.monotonic() < mine.deadline_s:
                    continue
                return _no_answer(self.url, error)
            # Garbage from the other side leaves requests as it was met: a header that is no text, a number that
            # is none. (RequestException is an OSError.)
            except (OSError, ValueError, HTTPException, HTTPError) as error:
                mine.drop()
                return _no_answer(self.url, error)
        raise AssertionError("the second attempt returns")

    def _once(
        self, session: HttpSession, kind: CallKind, body: dict[str, Any], token: str, deadline_s: float
    ) -> Outcome:
        path = REGISTER_PATH if kind in {CallKind.REGISTER, CallKind.FAREWELL} else KEEPALIVE_PATH
        left_s = max(0.1, deadline_s - time.monotonic())
        # The socket's time-out starts anew with every byte. This timer does not.
        watchdog = threading.Timer(left_s, session.hang_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            with session.post(
                (_url(self._address(), self._port) if self._address else self.url) + path,
                json=body,
                headers={"Authorization": f"Bearer {token}", "Host": self._host},
                timeout=(min(self._connect_timeout_s, left_s), left_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                return _read(kind, response, deadline_s)
        finally:
            watchdog.cancel()


def _url(host: str, port: int) -> str:
    return f"http://{bracketed(host)}:{port}"


class _Call:
    """One call under way: the session that it alone uses, and whether anybody still waits for it."""

    def __init__(self, deadline_s: float, kept: HttpSession | None) -> None:
        self.deadline_s = deadline_s
        self.session = kept
        self._abandoned = False
        self._lock = threading.Lock()

    def open(self) -> HttpSession | None:
        """The session to use, a new one where there is none that serves; None once abandoned."""
        with self._lock:
            if self._abandoned:
                return None
            if self.session is not None and self.session.hung_up.is_set():
                self.session.close()
                self.session = None
            if self.session is None:
                self.session = HttpSession()
            return self.session

    def drop(self) -> None:
        """Close the session; the next attempt gets a new one."""
        with self._lock:
            session, self.session = self.session, None
        if session is not None:
            session.close()

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            self._abandoned = True
            if self.session is not None:
                self.session.hang_up()


def _read(kind: CallKind, response: requests.Response, deadline_s: float) -> Outcome:
    body = bytearray()
    for piece in response.iter_content(8192):
        body += piece
        if len(body) > REPLY_LIMIT_BYTES:
            return Outcome(
                OutcomeKind.BAD_REPLY, f"the gateway's answer is longer than {REPLY_LIMIT_BYTES} bytes"
            )
        if time.monotonic() > deadline_s:
            return Outcome(OutcomeKind.NO_ANSWER, "the gateway's answer trickled past the time limit")
    return read_reply(kind, response.status_code, bytes(body), response.headers.get("Retry-After"))


def _no_answer(url: str, error: Exception) -> Outcome:
    # requests wraps urllib3 wraps the operating system's reason; the innermost is the one for a person.
    inner: BaseException = error
    while isinstance(inner.args[0] if inner.args else None, BaseException):
        inner = inner.args[0]
    reason = getattr(inner, "reason", None) or inner
    text = " ".join(str(getattr(reason, "strerror", None) or reason).split())
    return Outcome(OutcomeKind.NO_ANSWER, f"no answer from the gateway at {url}: {text[-200:]}")
