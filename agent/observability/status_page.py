"""Handles one HTTP request to the status page. Imported on the first connection."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

REQUEST_S = 5.0
"""Time limit for the whole request head, and again for the whole answer, so that a slow client cannot hold a slot."""
FINISH_S = 0.5
HEAD_BYTES = 8192
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

Answer = tuple[int, str, bytes]
"""Status code, content type, body."""
Route = Callable[[], Answer]


def answer(connection: socket.socket, routes: dict[str, Route], *, loopback_only: bool) -> None:
    """Read one request and answer it. Raises: OSError when the client is too slow or disconnects."""
    head = _read_head(connection)
    if head:
        connection.settimeout(REQUEST_S)
        _Request(connection, head, routes, loopback_only=loopback_only)
        connection.shutdown(socket.SHUT_WR)
        _drain(connection)


def _read_head(connection: socket.socket) -> bytes:
    """Return everything up to the empty line, at most HEAD_BYTES; b"" if the client disconnected before."""
    deadline_s = time.monotonic() + REQUEST_S
    head = b""
    while not _is_complete(head) and len(head) < HEAD_BYTES:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"no complete request within {REQUEST_S:g} s")
        connection.settimeout(left_s)
        data = connection.recv(HEAD_BYTES - len(head))
        if not data:
            return b""
        head += data
    return head


def _is_complete(head: bytes) -> bool:
    return b"\r\n\r\n" in head or b"\n\n" in head


def _drain(connection: socket.socket) -> None:
    """Read on briefly: closing with unread bytes would reset the connection and lose the answer."""
    connection.settimeout(FINISH_S)
    for _ in range(16):
        if not connection.recv(HEAD_BYTES):
            return


class _Request(BaseHTTPRequestHandler):
    """Parses a request head that was already read, and answers by its route."""

    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def __init__(
        self, connection: socket.socket, head: bytes, routes: dict[str, Route], *, loopback_only: bool
    ) -> None:
        self._head = head
        self._routes = routes
        self._loopback_only = loopback_only
        self.command = self.requestline = ""  # `send_error` reads both, even before anything is parsed
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]  # no server: it is never used

    def setup(self) -> None:
        """Read from the bytes received, and write to a buffer that is sent in one piece."""
        self.connection = self.request
        self.rfile = io.BytesIO(self._head)
        self.wfile = io.BytesIO()

    def finish(self) -> None:
        """Send the buffered answer."""
        self.connection.sendall(self.wfile.getvalue())  # type: ignore[attr-defined]

    def parse_request(self) -> bool:
        """Parse the head. Also refuse heads that are too long, HTTP/0.9, other methods than GET, and foreign hosts."""
        if not _is_complete(self._head):
            self.send_error(431, f"request head longer than {HEAD_BYTES} bytes")
            return False
        if not super().parse_request():
            return False
        self.close_connection = True
        if self.request_version == "HTTP/0.9":
            self.send_error(400, "HTTP version missing")
        elif self.command != "GET":
            self.send_error(405, "only GET is supported")
        elif self._loopback_only and not _is_loopback(self.headers.get("Host")):
            self.send_error(403, "the Host header must name localhost")
        else:
            return True
        return False

    def do_GET(self) -> None:
        """Answer by route; the query string is ignored."""
        route = self._routes.get(self.path.partition("?")[0])
        if route is None:
            self.send_error(404, "not found; try " + " ".join(self._routes))
            return
        try:
            code, content_type, body = route()
        except Exception:
            self.send_error(500, "internal error; see the agent's log")
            raise
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send an error with headers; for an unreadable request the base class would assume HTTP/0.9 and send none."""
        self.request_version = "HTTP/1.0"
        super().send_error(code, message, explain)

    def version_string(self) -> str:
        """Return the Server header, without the Python version."""
        return "beta9-worker"

    def log_message(self, *_: object) -> None:
        """Log nothing: a line per scrape would drown the rest."""


def _is_loopback(host: str | None) -> bool:
    """Return whether the Host header names loopback. A client that sends none is not a browser, so it may pass."""
    if host is None:
        return True
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name.lower() in LOOPBACK_NAMES
