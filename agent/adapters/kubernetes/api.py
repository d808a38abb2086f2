"""Calls to the machine's own Kubernetes API, as its administrator, each within one deadline.

Plain HTTP with JSON from the standard library: six kinds of call need no client library (docs/adr/0006).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.adapters.kubernetes import kubeconfig
from agent.adapters.kubernetes.kubeconfig import Access, Stamp
from agent.errors import RejectedError, SettingsError, TransientError

if TYPE_CHECKING:
    from http.client import HTTPResponse, HTTPSConnection

REPLY_LIMIT_BYTES = 16 << 20
"""A node's pods take some 10 kB each; a reply beyond this is no list of one machine's pods."""


class SilentError(TransientError):
    """The API did not answer in time."""


class ApiError(TransientError):
    """The API answered that it will not or cannot; `status` is HTTP's."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Api:
    """The API that a kubeconfig names. The file may come, change and go: what counts is how it is at each session."""

    def __init__(self, path: Path, learned: Callable[[str], None], *, is_named: bool = True) -> None:
        """`learned` is told every secret before it is used, so that no log shows it. `is_named`: the path was given
        by somebody, who misses the file where there is none.
        """
        self.path = path
        self.is_named = is_named
        self._learned = learned
        self._seen: Stamp = ()
        self._access: Access | None = None
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def refresh(self) -> Stamp:
        """Take the file up as it is now, as every session does; the stamp is another one whenever it has changed.

        Raises: SettingsError for one that is not there or cannot be used. What was read before is known still.
        """
        self._ready()
        return self._seen

    @property
    def cluster(self) -> tuple[str, int, str | None] | None:
        """Which cluster it named when it was last read; None: it never could be."""
        return None if self._access is None else self._access.cluster

    @contextlib.contextmanager
    def session(self, timeout_s: float) -> Iterator[Session]:
        """One connection for several calls; all of them together take no longer than `timeout_s`.

        Raises: SettingsError for a kubeconfig that cannot be used; SilentError, TransientError.
        """
        from http.client import HTTPException, HTTPSConnection

        access, context = self._ready()
        connection = HTTPSConnection(access.host, access.port, timeout=timeout_s, context=context)
        ended = threading.Event()

        def end() -> None:
            # http.client's time-out starts anew with every byte: this one does not.
            ended.set()
            if isinstance(connection.sock, socket.socket):
                with contextlib.suppress(OSError):  # the other side closed it already
                    socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

        timer = threading.Timer(timeout_s, end)
        timer.daemon = True
        timer.start()
        where = f"the Kubernetes API at {access.host}:{access.port}"
        try:
            yield Session(connection, access, where, time.monotonic() + timeout_s)
        except (OSError, HTTPException, ValueError) as error:
            if ended.is_set() or isinstance(error, TimeoutError) or "timed out" in str(error):
                raise SilentError(f"{where} did not answer within {timeout_s:g} s") from error
            raise TransientError(f"{where}: {error or type(error).__name__}") from error
        finally:
            timer.cancel()
            connection.close()

    def _ready(self) -> tuple[Access, ssl.SSLContext]:
        with self._lock:
            seen = kubeconfig.stamp(self.path, self._access)
            if self._access is None or self._context is None or seen != self._seen or None in seen:
                access = kubeconfig.read(self.path)
                for secret in (access.token, access.key_pem):
                    if secret:
                        self._learned(secret)
                context = _context(access, self.path)
                # The stamp is from before the reading, so a file that was changed meanwhile is read once more.
                self._seen = seen[:1] + kubeconfig.stamp(self.path, access)[1:]
                self._access, self._context = access, context
            return self._access, self._context


class Session:
    """Calls over one connection. Raises of all: ApiError, RejectedError, and what `Api.session` names."""

    def __init__(self, connection: HTTPSConnection, access: Access, where: str, end_s: float) -> None:
        self.cluster = access.cluster
        self._connection = connection
        self._headers = {"Accept": "application/json"}
        if access.token is not None:
            self._headers["Authorization"] = f"Bearer {access.token}"
        self._where = where
        self._end_s = end_s

    def get(self, path: str) -> Any:
        """An object."""
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        """One call; the reply's JSON."""
        if time.monotonic() >= self._end_s:
            raise TimeoutError("timed out")
        text = None if body is None else json.dumps(body)
        headers = self._headers if text is None else {**self._headers, "Content-Type": content}
        self._connection.request(method, path, text, headers)
        return self._read(self._connection.getresponse(), f"{method} {path.partition('?')[0]}")

    def _read(self, reply: HTTPResponse, what: str) -> Any:
        body = reply.read(REPLY_LIMIT_BYTES)
        if reply.status in {401, 403}:
            raise RejectedError(
                f"{self._where} refuses the kubeconfig's login for {what} ({reply.status}); "
                "set BETA9_KUBECONFIG to one of an administrator"
            )
        if reply.status >= 300:
            raise ApiError(f"{self._where} answered {reply.status} to {what}{_message(body)}", reply.status)
        try:
            return json.loads(body)
        except ValueError:
            # Half an answer, too: it is silence if the deadline cut it off, which `Api.session` knows.
            raise ValueError(f"{len(body)} bytes in answer to {what} that are no JSON") from None


def _message(body: bytes) -> str:
    try:
        told = json.loads(body).get("message")
    except (ValueError, AttributeError):
        return ""
    return f": {told[:300]}" if isinstance(told, str) else ""


def _context(access: Access, path: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=access.authority_pem)
        if not access.is_verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if access.certificate_pem is not None and access.key_pem is not None:
            _load_pair(context, access.certificate_pem, access.key_pem)
    except (ssl.SSLError, ValueError) as error:
        raise SettingsError(
            f"the kubeconfig {path} holds certificates that cannot be used: {error}"
        ) from error
    return context


def _load_pair(context: ssl.SSLContext, certificate_pem: str, key_pem: str) -> None:
    """The library takes files only; this one is in memory and has no name."""
    number = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    with os.fdopen(number, "wb") as file:
        file.write(f"{certificate_pem}\n{key_pem}\n".encode("ascii"))
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{number}")
