"""Calls to a machine's k3s as the gateway makes them: a new TLS connection, any certificate, no timeout.

The real gateway sets no timeout either, which is why one k3s that hangs stalls a whole pool. `Dialler.end` only exists
so that the embedded gateway can stop.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any


class DialError(Exception):
    """The machine's API server could not be reached, or answered with an error."""


class _Connection(http.client.HTTPConnection):
    """HTTPConnection over a socket that is already connected."""

    def __init__(self, host: str, connected: ssl.SSLSocket) -> None:
        super().__init__(host)
        self.sock = connected


class Dialler:
    """Calls machines on `port`. Each calling thread has its own, so that another thread can end its call."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._ended = False

    def call(self, hostname: str, token: str, method: str, path: str, body: object = None) -> Any:
        """Make one request and return its reply's JSON. Never times out. Raises: DialError."""
        try:
            with self._dialled(hostname) as connected:
                connection = _Connection(f"{hostname}:{self._port}", connected)
                headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
                if body is not None:
                    headers["Content-Type"] = "application/json"
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                reply = connection.getresponse()
                text = reply.read()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise DialError(f"dial {hostname}:{self._port}: {error or type(error).__name__}") from error
        if reply.status >= 300:
            raise DialError(f"{method} on {hostname}:{self._port}: {reply.status}")
        try:
            return json.loads(text)
        except ValueError as error:
            raise DialError(f"{method} on {hostname}:{self._port}: the reply is not JSON") from error

    @contextlib.contextmanager
    def _dialled(self, hostname: str) -> Iterator[ssl.SSLSocket]:
        raw = socket.create_connection((hostname, self._port))
        connected = self._context.wrap_socket(raw, do_handshake_on_connect=False)
        try:
            self._hold(connected)
            connected.do_handshake()
            yield connected
        finally:
            self._hold(None)
            connected.close()

    def _hold(self, connected: socket.socket | None) -> None:
        with self._lock:
            if connected is not None and self._ended:
                raise DialError("the gateway is stopping")
            self._socket = connected

    def end(self) -> None:
        """End the call in progress and refuse any further one."""
        with self._lock:
            self._ended = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # already closed by the peer
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
