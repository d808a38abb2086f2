"""The gateway's machine API over HTTP. Each call returns one Outcome by its deadline and never raises."""

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
"""A registration's reply holds the gateway's configuration, about 13 kB; this is twenty times as much."""

_GIVEN_UP = Outcome(OutcomeKind.NO_ANSWER, "given up: another call took its place")


class Gateway:
    """Calls to the gateway, on one kept connection, one at a time.

    The core has given up a call that is still running when the next one begins (its time limit passed, or a drain
    began). It is interrupted, so that two calls never share a connection.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: Callable[[bool], str],
        connect_timeout_s: float,
        address: Callable[[], str] | None = None,
    ) -> None:
        """Prepare calls to `host`; nothing is sent yet.

        `token(fresh)` returns the machine token, resolved again if `fresh`. It may raise RejectedError, SettingsError
        or TransientError. `address()` returns the address to dial, for a host name that the resolver may not know.
        """
        self.url = _url(host, port)
        self._host = f"{bracketed(host)}:{port}"
        self._port, self._address = port, address
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
        """Make one call and return its outcome; `timeout_s` bounds all of it, however slowly the bytes arrive.

        `number` grows with every call: a call whose thread starts late, after a newer call, is not made.
        """
        began_s = time.monotonic()
        call = self._begin(began_s + timeout_s, number)
        if call is None:
            return _GIVEN_UP
        try:
            outcome = self._perform(call, kind, body, fresh_secret)
        finally:
            self._end(call)
        return replace(outcome, took_s=time.monotonic() - began_s)

    def prepare(self) -> None:
        """Load the HTTP library ahead of the first call."""
        session = HttpSession()
        with self._lock:
            if self._idle is None and self._current is None:
                self._idle = session

    def abandon(self) -> None:
        """Interrupt the running call, if any; it makes no further attempt."""
        with self._lock:
            abandoned, self._current = self._current, None
        if abandoned is not None:
            abandoned.abandon()

    def close(self) -> None:
        """Interrupt the running call and close the kept connection."""
        self.abandon()
        with self._lock:
            idle, self._idle = self._idle, None
        if idle is not None:
            idle.close()

    def _begin(self, deadline_s: float, number: int) -> _Call | None:
        with self._lock:
            if number < self._latest:
                return None
            previous, self._latest = self._current, number
            self._current = call = _Call(deadline_s, self._idle)
            self._idle = None
        if previous is not None:
            previous.abandon()
        return call

    def _end(self, call: _Call) -> None:
        with self._lock:
            is_current = self._current is call
            if is_current:
                self._current, self._idle = None, call.session
        if not is_current:
            call.drop()

    def _perform(self, call: _Call, kind: CallKind, body: dict[str, Any], fresh_secret: bool) -> Outcome:
        try:
            token = self._token(fresh_secret)
        except RejectedError as error:
            return Outcome(OutcomeKind.SECRET, str(error))
        except SettingsError as error:
            return Outcome(OutcomeKind.UNUSABLE, str(error))
        except TransientError as error:
            return Outcome(OutcomeKind.NO_ANSWER, str(error))
        return self._post(call, kind, body, token)

    def _post(self, call: _Call, kind: CallKind, body: dict[str, Any], token: str) -> Outcome:
        from http.client import HTTPException

        import requests
        from urllib3.exceptions import HTTPError

        for attempt in (1, 2):
            session = call.open()
            if session is None:
                return _GIVEN_UP
            used_before = session.used
            began_s = time.monotonic()
            try:
                return self._post_once(session, kind, body, token, call.deadline_s)
            except requests.exceptions.ConnectionError as error:
                call.drop()
                # A kept connection may have died with an earlier tunnel, which shows only now. Calls are safe to
                # repeat, so try once more on a new connection; but not after a slow failure, which was a time-out.
                is_quick = time.monotonic() - began_s < 1.0
                if attempt == 1 and used_before and is_quick and time.monotonic() < call.deadline_s:
                    continue
                return _no_answer(self.url, error)
            # requests does not wrap every error of a malformed reply, such as a header that is not text or a size that
            # is not a number. (RequestException is an OSError.)
            except (OSError, ValueError, HTTPException, HTTPError) as error:
                call.drop()
                return _no_answer(self.url, error)
        raise AssertionError("the second attempt returns")

    def _post_once(
        self, session: HttpSession, kind: CallKind, body: dict[str, Any], token: str, deadline_s: float
    ) -> Outcome:
        path = REGISTER_PATH if kind in {CallKind.REGISTER, CallKind.FAREWELL} else KEEPALIVE_PATH
        left_s = max(0.1, deadline_s - time.monotonic())
        # The socket's time-out starts again with every byte; this timer does not.
        watchdog = threading.Timer(left_s, session.hang_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            with session.post(
                (_url(self._address(), self._port) if self._address else self.url) + path,
                body,
                {"Authorization": f"Bearer {token}", "Host": self._host},
                (min(self._connect_timeout_s, left_s), left_s),
            ) as response:
                return _read(kind, response, deadline_s)
        finally:
            watchdog.cancel()


def _url(host: str, port: int) -> str:
    return f"http://{bracketed(host)}:{port}"


class _Call:
    """A running call: the session that only it uses, and whether its result is still needed."""

    def __init__(self, deadline_s: float, session: HttpSession | None) -> None:
        self.deadline_s = deadline_s
        self.session = session
        self._abandoned = False
        self._lock = threading.Lock()

    def open(self) -> HttpSession | None:
        """Return the session to use, a new one if the old one is unusable; None once abandoned."""
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
        """Interrupt the call: its result is no longer needed."""
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
                OutcomeKind.BAD_REPLY, f"the gateway's reply is longer than {REPLY_LIMIT_BYTES} bytes"
            )
        if time.monotonic() > deadline_s:
            return Outcome(OutcomeKind.NO_ANSWER, "the gateway's reply was still arriving at the time limit")
    return read_reply(kind, response.status_code, bytes(body), response.headers.get("Retry-After"))


def _no_answer(url: str, error: Exception) -> Outcome:
    # requests wraps urllib3's error, which wraps the operating system's; the innermost is the one to show.
    inner: BaseException = error
    while isinstance(inner.args[0] if inner.args else None, BaseException):
        inner = inner.args[0]
    reason = getattr(inner, "reason", None) or inner
    text = " ".join(str(getattr(reason, "strerror", None) or reason).split())
    return Outcome(OutcomeKind.NO_ANSWER, f"no answer from the gateway at {url}: {text[-200:]}")
