"""HTTP requests that end by a deadline, over http.client.

http.client's time-out starts again with every byte that arrives, so a peer that sends one byte a second can hold the
caller for hours. Here sending, and each read of the header and the body, gets only the time left until the deadline.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def remaining_s(deadline_s: float) -> float:
    """Return the seconds until `deadline_s` (on time.monotonic). Raises: TimeoutError once it has passed."""
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("timed out")
    return left_s


def connect(host: str, port: int, deadline_s: float) -> socket.socket:
    """Connect to the first of the name's addresses that accepts.

    Each address gets an equal share of the time left: `socket.create_connection` would spend all of it on the first.

    Raises:
        OSError: the name is unknown, or no address accepts; the error is the last one's (TimeoutError if it is silent).
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    error = OSError(f"{host}: no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        share_s = remaining_s(deadline_s) / (len(addresses) - number)
        connection: socket.socket | None = None
        try:
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(share_s)
            connection.connect(address)
        except OSError as failure:
            error = failure
            if connection is not None:
                connection.close()
        else:
            return connection
    raise error


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket; `host` is only what the Host header says."""

    def __init__(self, path: Path, host: str = "localhost") -> None:
        super().__init__(host)
        self._path = path

    def connect(self) -> None:
        """Connect within `self.timeout`."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def exchange(  # noqa: PLR0913 - the parts of a request, and its two limits
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    *,
    deadline_s: float,
    limit_bytes: int,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Send one request, read the whole reply, and return its status and body.

    `deadline_s` is on time.monotonic. Connects where `connection` is not connected, and leaves it open for the next
    request unless the server closes it. After an error the caller must close it.

    Raises:
        TimeoutError: the deadline passed first.
        http.client.HTTPException: not HTTP, a reply that was cut short, or a body of more than `limit_bytes`.
        OSError: the connection failed.
    """
    # Each address of a name, and a TLS handshake, may take this long. Servers here are local, so connecting is quick.
    connection.timeout = remaining_s(deadline_s)
    if connection.sock is None:
        connection.connect()
    connection.sock.settimeout(remaining_s(deadline_s))
    # http.client makes the response object itself, so this is the only way to give it another reader.
    connection.response_class = cast(
        "type[http.client.HTTPResponse]", functools.partial(_BoundedResponse, deadline_s)
    )
    connection.request(method, path, body, dict(headers or {}))
    with connection.getresponse() as response:
        content = response.read(limit_bytes + 1)
        if len(content) > limit_bytes:
            raise http.client.HTTPException(f"the reply is longer than {limit_bytes} bytes")
        if response.length:  # `read` with a size does not check this itself
            raise http.client.IncompleteRead(content, response.length)
        return response.status, content


class _BoundedResponse(http.client.HTTPResponse):
    """A response whose reads all end by one deadline."""

    def __init__(
        self, deadline_s: float, sock: socket.socket, debuglevel: int = 0, method: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method)
        self.fp.close()
        self.fp = io.BufferedReader(_BoundedReader(sock, deadline_s))


class _BoundedReader(io.RawIOBase):
    """Reads from a socket, each time with the time that is left."""

    def __init__(self, sock: socket.socket, deadline_s: float) -> None:
        super().__init__()
        self._sock = sock
        self._deadline_s = deadline_s
        # Holds the socket open until the body is read: with `Connection: close`, http.client closes it before that.
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._sock.settimeout(remaining_s(self._deadline_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
