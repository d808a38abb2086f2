"""The gateway's machine API over HTTP: one call, one Outcome, never an exception, always within its deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent.core.wire import KEEPALIVE_PATH, REGISTER_PATH, Outcome, OutcomeKind, read_reply
from agent.core.worker import CallKind
from agent.errors import RejectedError, SettingsError, TransientError

if TYPE_CHECKING:
    import requests

REPLY_LIMIT_BYTES = 256 * 1024
"""A reply to a registration carries the gateway's configuration, some 13 kB; twenty times that is no reply."""


class Gateway:
    """One HTTP session with the gateway. One call at a time: the core sees to that."""

    def __init__(self, host: str, port: int, token: Callable[[bool], str], connect_timeout_s: float) -> None:
        """`token(fresh)` gives the machine token; with `fresh` it is resolved anew.

        It may raise RejectedError, SettingsError or TransientError.
        """
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{port}"
        self._token = token
        self._connect_timeout_s = connect_timeout_s
        self._session: requests.Session | None = None

    def call(
        self, kind: CallKind, body: dict[str, Any], timeout_s: float, *, fresh_secret: bool = False
    ) -> Outcome:
        """Make one call and say what came of it; `timeout_s` bounds it all, however slowly bytes trickle."""
        began_s = time.monotonic()
        try:
            token = self._token(fresh_secret)
        except RejectedError as error:
            return Outcome(OutcomeKind.SECRET, str(error))
        except SettingsError as error:
            return Outcome(OutcomeKind.UNUSABLE, str(error))
        except TransientError as error:
            return Outcome(OutcomeKind.NO_ANSWER, str(error))
        path = REGISTER_PATH if kind in {CallKind.REGISTER, CallKind.FAREWELL} else KEEPALIVE_PATH
        outcome = self._post(kind, path, body, token, began_s + timeout_s)
        return _with_time(outcome, time.monotonic() - began_s)

    def prepare(self) -> None:
        """Load what a call needs, ahead of the first."""
        if self._session is None:
            self._session = _new_session()

    def close(self) -> None:
        """Drop the session's connections."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _post(
        self, kind: CallKind, path: str, body: dict[str, Any], token: str, deadline_s: float
    ) -> Outcome:
        import requests

        for attempt in (1, 2):
            used_before = self._session is not None
            began_s = time.monotonic()
            try:
                return self._once(kind, path, body, token, deadline_s)
            except requests.exceptions.ConnectionError as error:
                self.close()
                # A kept connection may have died with an old tunnel, which shows only now. Both calls may be
                # repeated safely, so ask once more on a new connection, unless time passed: that was a time-out.
                quick = time.monotonic() - began_s < 1.0
                if attempt == 1 and used_before and quick and time.monotonic() < deadline_s:
                    continue
                return _no_answer(self.url, error)
            except requests.exceptions.RequestException as error:
                self.close()
                return _no_answer(self.url, error)
        raise AssertionError("the second attempt returns")

    def _once(
        self, kind: CallKind, path: str, body: dict[str, Any], token: str, deadline_s: float
    ) -> Outcome:
        session = self._session = self._session or _new_session()
        left_s = max(0.1, deadline_s - time.monotonic())
        # The socket's time-out starts anew with every byte. This timer does not.
        watchdog = threading.Timer(left_s, _hang_up, args=(session,))
        watchdog.daemon = True
        watchdog.start()
        try:
            with session.post(
                self.url + path,
                json=body,
                headers={"Authorization": f"Bearer {token}"},
                timeout=(min(self._connect_timeout_s, left_s), left_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                return _read(kind, response, deadline_s)
        finally:
            watchdog.cancel()


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


def _new_session() -> requests.Session:
    import requests

    session = requests.Session()
    # A proxy or a .netrc of this machine must never see, or replace, the machine token.
    session.trust_env = False
    session.mount("http://", _adapter())
    return session


def _adapter() -> requests.adapters.HTTPAdapter:
    """An adapter that knows its sockets, so that a call past its deadline can be hung up from outside."""
    import requests
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool

    class Adapter(requests.adapters.HTTPAdapter):
        def __init__(self) -> None:
            self.connections: list[HTTPConnection] = []
            super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            connections = self.connections

            class Connection(HTTPConnection):
                def connect(self) -> None:
                    super().connect()
                    connections[:] = [self]

            class Pool(HTTPConnectionPool):
                ConnectionCls = Connection

            self.poolmanager.pool_classes_by_scheme = {"http": Pool}

        def hang_up(self) -> None:
            import contextlib
            import socket

            for connection in self.connections:
                if connection.sock is not None:
                    # Already closed by the other side: nothing is left to hang up.
                    with contextlib.suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    return Adapter()


def _hang_up(session: requests.Session) -> None:
    adapter: Any = session.adapters["http://"]
    adapter.hang_up()


def _no_answer(url: str, error: Exception) -> Outcome:
    # requests wraps urllib3 wraps the operating system's reason; the innermost is the one for a person.
    inner: BaseException = error
    while isinstance(inner.args[0] if inner.args else None, BaseException):
        inner = inner.args[0]
    reason = getattr(inner, "reason", None) or inner
    text = str(getattr(reason, "strerror", None) or reason)
    return Outcome(OutcomeKind.NO_ANSWER, f"no answer from the gateway at {url}: {text[-200:]}")


def _with_time(outcome: Outcome, took_s: float) -> Outcome:
    from dataclasses import replace

    return replace(outcome, took_s=took_s)
