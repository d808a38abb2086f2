"""Calls to the machine's own Kubernetes API, as its administrator, within a deadline.

Plain HTTP with JSON from the standard library: a few kinds of call need no client library (docs/adr/0006).
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.adapters.bounded_http import exchange
from agent.adapters.kubernetes import kubeconfig
from agent.adapters.kubernetes.kubeconfig import Access, Stamp
from agent.errors import RejectedError, SettingsError, TransientError

if TYPE_CHECKING:
    from http.client import HTTPSConnection

REPLY_LIMIT_BYTES = 16 << 20
"""A pod takes about 10 kB; no list of one machine's pods is longer than this."""


class SilentError(TransientError):
    """The API did not answer in time."""


class ApiError(TransientError):
    """The API answered with an error; `status` is the HTTP status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Api:
    """The API that a kubeconfig names. The file may appear, change and vanish; each session reads it as it is now."""

    def __init__(self, path: Path, learned: Callable[[str], None], *, is_named: bool = True) -> None:
        """Read nothing yet.

        `learned` is called with every secret before it is used, so that no log shows it. `is_named`: the path was
        configured, so a missing file is an error.
        """
        self.path = path
        self.is_named = is_named
        self._learned = learned
        self._seen: Stamp = ()
        self._access: Access | None = None
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def refresh(self) -> Stamp:
        """Read the file again if it has changed, as every session does. Return its stamp, which changes with it.

        Raises: SettingsError if the file is missing or unusable; what was read before stays known.
        """
        self._ready()
        return self._seen

    @property
    def cluster(self) -> tuple[str, int, str | None] | None:
        """The cluster that the file named when it was last read; None if it never could be read."""
        return None if self._access is None else self._access.cluster

    @contextlib.contextmanager
    def session(self, timeout_s: float) -> Iterator[Session]:
        """Open one connection for several calls, which together take no longer than `timeout_s`.

        Raises: SettingsError if the kubeconfig is unusable; SilentError if the time runs out; TransientError.
        """
        from http.client import HTTPException, HTTPSConnection

        access, context = self._ready()
        connection = HTTPSConnection(access.host, access.port, context=context)
        where = f"the Kubernetes API at {access.host}:{access.port}"
        try:
            yield Session(connection, access, where, time.monotonic() + timeout_s)
        except TimeoutError as error:
            raise SilentError(f"{where} did not answer within {timeout_s:g} s") from error
        except (OSError, HTTPException, ValueError) as error:
            raise TransientError(f"{where}: {error or type(error).__name__}") from error
        finally:
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
                # The stamp was taken before reading, so a file that changed in the meantime is read once more.
                self._seen = seen[:1] + kubeconfig.stamp(self.path, access)[1:]
                self._access, self._context = access, context
            return self._access, self._context


class Session:
    """Calls over one connection. All of them raise ApiError, RejectedError, and what `Api.session` lists."""

    def __init__(self, connection: HTTPSConnection, access: Access, where: str, deadline_s: float) -> None:
        self.cluster = access.cluster
        self._connection = connection
        self._headers = {"Accept": "application/json"}
        if access.token is not None:
            self._headers["Authorization"] = f"Bearer {access.token}"
        self._where = where
        self._deadline_s = deadline_s

    def get(self, path: str) -> Any:
        """Return an object or a list."""
        return self.call("GET", path)

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, content: str = "application/json"
    ) -> Any:
        """Make one call and return the JSON of the reply. `content` is the type of `body`."""
        text = None if body is None else json.dumps(body)
        headers = self._headers if text is None else {**self._headers, "Content-Type": content}
        status, reply = exchange(
            self._connection,
            method,
            path,
            body=text,
            headers=headers,
            deadline_s=self._deadline_s,
            limit_bytes=REPLY_LIMIT_BYTES,
        )
        return self._parse(status, reply, f"{method} {path.partition('?')[0]}")

    def _parse(self, status: int, reply: bytes, what: str) -> Any:
        if status in {401, 403}:
            raise RejectedError(
                f"{self._where} refuses the kubeconfig's login for {what} ({status}); "
                "set BETA9_KUBECONFIG to an administrator's kubeconfig"
            )
        if status >= 300:
            raise ApiError(f"{self._where} answered {status} to {what}{_message(reply)}", status)
        try:
            return json.loads(reply)
        except ValueError:
            raise ValueError(f"the {len(reply)} bytes in reply to {what} are not JSON") from None


def _message(reply: bytes) -> str:
    try:
        message = json.loads(reply).get("message")
    except (ValueError, AttributeError):
        return ""
    return f": {message[:300]}" if isinstance(message, str) else ""


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
    """Load the pair from an unnamed file in memory: the ssl module only takes files."""
    number = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    with os.fdopen(number, "wb") as file:
        file.write(f"{certificate_pem}\n{key_pem}\n".encode("ascii"))
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{number}")
