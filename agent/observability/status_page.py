"""One HTTP request on the status page, from its first byte to the answer. Imported with the first
connection.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

REQUEST_S = 5.0
"""For all of a request's head, and for all of its answer: one byte a second holds nothing up for long."""
FINISH_S = 0.5
HEAD_BYTES = 8192
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

Answer = tuple[int, str, bytes]
"""Status code, content type, body."""
Route = Callable[[], Answer]


def answer(connection: socket.socket, routes: dict[str, Route], *, loopback_only: bool) -> None:
    """Read one request and answer it. Raises: OSError when the other side does not go along."""
    head = _read_head(connection)
    if head:
        connection.settimeout(REQUEST_S)
        _Request(connection, head, routes, loopback_only=loopback_only)
        connection.shutdown(socket.SHUT_WR)
        _let_finish(connection)


def _read_head(connection: socket.socket) -> bytes:
    """Everything up to the empty line, at most HEAD_BYTES; b"" when the other side gave up before."""
    deadline_s = time.monotonic() + REQUEST_S
    head = b""
    while not _is_whole(head) and len(head) < HEAD_BYTES:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no whole request in time")
        connection.settimeout(left_s)
        data = connection.recv(HEAD_BYTES - len(head))
        if not data:
            return b""
        head += data
    return head


def _is_whole(head: bytes) -> bool:
    return b"\r\n\r\n" in head or b"\n\n" in head


def _let_finish(connection: socket.socket) -> None:
    """Read on for a moment: closing with unread bytes would reset the connection and lose the answer."""
    connection.settimeout(FINISH_S)
    for _ in range(16):
        if not connection.recv(HEAD_BYTES):
            return


class _Request(BaseHTTPRequestHandler):
    """Parses a head that was already read, and finds the route for it."""

    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def __init__(
        self, connection: socket.socket, head: bytes, routes: dict[str, Route], *, loopback_only: bool
    ) -> None:
        self._head = head
        self._routes = routes
        self._loopback_only = loopback_only
        self.command = self.requestline = ""  # what `send_error` looks at, also before anything is parsed
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]  # nothing here asks the server

    def setup(self) -> None:
        """In place of files on the socket: the bytes that are there, and a buffer sent at once."""
        self.connection = self.request
        self.rfile = io.BytesIO(self._head)
        self.wfile = io.BytesIO()

    def finish(self) -> None:
        """Send what was written."""
        self.connection.sendall(self.wfile.getvalue())  # type: ignore[attr-defined]

    def parse_request(self) -> bool:
        """Also refuses what is too long, too old or no GET, and names that are not ours."""
        if not _is_whole(self._head):
            self.send_error(431, "too long")
            return False
        if not super().parse_request():
            return False
        self.close_connection = True
        if self.request_version == "HTTP/0.9":
            self.send_error(400, "no HTTP version")
        elif self.command != "GET":
            self.send_error(405, "only GET")
        elif self._loopback_only and not _is_loopback(self.headers.get("Host")):
            self.send_error(403, "this page is for localhost")
        else:
            return True
        return False

    def do_GET(self) -> None:
        """Answer by route; queries are ignored."""
        route = self._routes.get(self.path.partition("?")[0])
        if route is None:
            self.send_error(404, "try " + " ".join(self._routes))
            return
        try:
            code, content_type, body = route()
        except Exception:
            self.send_error(500, "a bug; the log has it")
            raise
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """With headers in any case: of a request that cannot be read, the base class takes 0.9 for the
        version.
        """
        self.request_version = "HTTP/1.0"
        super().send_error(code, message, explain)

    def version_string(self) -> str:
        """Whose page it is; not which Python serves it."""
        return "beta9-worker"

    def log_message(self, *_: Any) -> None:
        """Scrapes are not worth a line."""


def _is_loopback(host: str | None) -> bool:
    """Whether the Host header names this machine's loopback; a program that sends none is no browser."""
    if host is None:
        return True
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name.lower() in LOOPBACK_NAMES
