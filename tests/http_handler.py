"""Base class for the HTTP/1.1 handlers of test servers that answer GET and HEAD."""

from __future__ import annotations

from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler


class DownloadHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD alike; subclasses implement `answer`. Connections are kept alive."""

    protocol_version = "HTTP/1.1"

    def answer(self, *, with_body: bool) -> None:
        """Send the reply: its head with `send_head`, then the body if `with_body`."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def send_head(self, status: int, kind: str, size: int, headers: Mapping[str, str] | None = None) -> None:
        """Send the status line and headers of a reply with `size` bytes of the media type `kind`."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(size), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing: the servers record their requests."""
