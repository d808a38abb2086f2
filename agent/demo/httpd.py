"""An HTTP/1.1 server on loopback whose stop closes the listener and every open connection.

Each connection has a thread, so that one that hangs does not delay others; the TLS handshake happens there, too. The
demo's gateway, its admin interface and the stand-in Kubernetes API are built on it.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agent.demo.messages import Reply, Request

MAX_BODY_BYTES = 1 << 20

Gate = Callable[[], object]
"""Called in a connection's thread before its TLS handshake; may block (a frozen server)."""


class JsonHandler(BaseHTTPRequestHandler):
    """Reads a complete request and sends the reply in one piece. Subclasses decide the reply."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server_version = "demo"
    sys_version = ""

    def respond(self, request: Request) -> None:
        """Answer with `send`, or break the connection."""
        raise NotImplementedError

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdigit() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self.send(Reply(413, b'{"message":"Request Entity Too Large"}\n'))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.respond(Request(self.command, path, query, headers, self.rfile.read(int(length))))

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = do_TRACE = _serve  # noqa: N815 - names of the base class

    def send(self, reply: Reply) -> None:
        """Send a complete reply."""
        self.write_head(reply)
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    def write_head(self, reply: Reply) -> None:
        """Buffer the status line and headers; a header with an empty value is left out."""
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(reply.body)),
            **reply.headers,
        }
        self.send_response(reply.status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def drop(self, *, reset: bool = False) -> None:
        """Close the connection without (the rest of) a reply, by a TCP reset if `reset`."""
        self.close_connection = True
        if reset:
            linger = (1).to_bytes(4, sys.byteorder) + (0).to_bytes(4, sys.byteorder)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing: the owner keeps its own log."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    timeout = 1.0  # a connection that closed before accept() must not block the accepting thread

    def __init__(
        self,
        address: tuple[str, int],
        handler: Callable[..., BaseHTTPRequestHandler],
        tls: ssl.SSLContext | None,
        gate: Gate | None,
    ) -> None:
        self._tls, self._gate = tls, gate
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stop_receiver, self._stop_sender = socket.socketpair()
        super().__init__(address, handler)

    def accept_until_stopped(self) -> None:
        """Accept connections. Unlike serve_forever, this does not poll, so stop() need not wait for a poll."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.register(self._stop_receiver, selectors.EVENT_READ)
            while all(key.fileobj is self for key, _ in selector.select()):
                self.handle_request()

    def request_stop(self) -> None:
        self._stop_sender.send(b".")

    def server_close(self) -> None:
        super().server_close()
        self._stop_receiver.close()
        self._stop_sender.close()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if self._tls is not None:
            request = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._open.add(request)
        try:
            if self._gate is not None:
                self._gate()
            if isinstance(request, ssl.SSLSocket):
                request.do_handshake()
        except (OSError, ValueError):  # the client disconnected, or this server is stopping
            self.shutdown_request(request)
        else:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.discard(request)

    def end_connections(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # already closed by its client
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(
            sys.exc_info()[1], OSError | ValueError
        ):  # a client that disconnects is not an error
            super().handle_error(request, client_address)


class HttpService:
    """Serves `handler` on host:port (0: any free port) from a background thread, between start() and stop()."""

    def __init__(
        self,
        handler: Callable[..., BaseHTTPRequestHandler],
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.host, self.port = host, port
        self._handler, self._tls, self._gate = handler, tls, gate
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start listening; a restart uses the same port. Raises: OSError if the port is not free."""
        if self._server is not None:
            return
        server = _Server((self.host, self.port), self._handler, self._tls, self._gate)
        self.port = server.server_address[1]
        self._server = server
        self._thread = threading.Thread(
            target=server.accept_until_stopped, name=f"http-{self.port}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the listener and every connection. Does nothing if already stopped."""
        server, thread, self._server, self._thread = self._server, self._thread, None, None
        if server is None or thread is None:
            return
        server.request_stop()
        thread.join()
        server.server_close()
        server.end_connections()
