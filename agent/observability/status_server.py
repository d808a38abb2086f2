"""Server for the status page: `/healthz`, `/readyz`, `/status`, `/metrics`, each answered by a callback.

Load is bounded: CONNECTIONS_MAX connections at a time, one request each. To prevent DNS rebinding (a web page that
points its own name at loopback to read this one), requests on loopback must name loopback in their Host header.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from agent.observability.logs import get_logger

CONNECTIONS_MAX = 16
CLOSE_S = 5.0
NO_DESCRIPTORS_S = 0.5
"""Pause after accept() failed, which usually means that the process is out of file descriptors."""
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of Prometheus' text format."""

Status = Callable[[], Mapping[str, object]]
Check = Callable[[], bool]


def render_metrics(status: dict[str, Any]) -> bytes:
    """Return the page for Prometheus. Its client library is imported on the first scrape."""
    from agent.observability.metrics import render

    return render(status)


class StatusServer:
    """Serves `status` as JSON and as metrics, and `live` and `ready` as 200 or 503.

    All callbacks run on the server's threads. `addr` is HOST:PORT or [HOST]:PORT; port 0 picks a free one. `clean`
    redacts secrets.
    """

    def __init__(  # noqa: PLR0913 - what it shows comes from many parts of the agent
        self,
        addr: object,
        status: Status,
        live: Check,
        ready: Check,
        render_metrics: Callable[[dict[str, Any]], bytes] = render_metrics,
        *,
        clean: Callable[[str], str] = str,
    ) -> None:
        self._addr = str(addr)
        self._status = status
        self._render = render_metrics
        self._clean = clean
        self._routes = {
            "/healthz": lambda: _verdict(live()),
            "/readyz": lambda: _verdict(ready()),
            "/status": lambda: (200, JSON, self._snapshot().encode()),
            "/metrics": lambda: (200, PROMETHEUS, self._render(json.loads(self._snapshot()))),
        }
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int | None:
        """The port it listens on, None while stopped."""
        return None if self._listener is None else int(self._listener.getsockname()[1])

    def start(self) -> str | None:
        """Start serving. Return None, or why it cannot: the agent runs on without a status page."""
        try:
            host, port = split_address(self._addr)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family, backlog=CONNECTIONS_MAX)
        except (OSError, ValueError) as error:
            return f"cannot serve the status page on {self._addr} ({error}); set BETA9_STATUS_ADDR to a free address"
        loopback_only = self._listener.getsockname()[0] in ("127.0.0.1", "::1")
        arguments = (self._listener, loopback_only)
        self._thread = threading.Thread(target=self._serve, args=arguments, name="status", daemon=True)
        self._thread.start()
        return None

    def stop(self) -> None:
        """Close the port. Safe to call twice, and without `start`."""
        listener, self._listener = self._listener, None
        if listener is None or self._thread is None:
            return
        self._stopping.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        self._thread.join(CLOSE_S)
        listener.close()

    def _serve(self, listener: socket.socket, loopback_only: bool) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:  # the port was closed, the client disconnected, or there are no descriptors left
                self._stopping.wait(NO_DESCRIPTORS_S)
                continue
            if not self._free.acquire(blocking=False):
                connection.close()
                continue
            try:
                threading.Thread(
                    target=self._handle, args=(connection, loopback_only), name="status-request", daemon=True
                ).start()
            except RuntimeError:  # the process cannot start another thread
                connection.close()
                self._free.release()

    def _handle(self, connection: socket.socket, loopback_only: bool) -> None:
        try:
            from agent.observability.status_page import answer

            with connection, contextlib.suppress(OSError):  # the client disconnected early
                answer(connection, self._routes, loopback_only=loopback_only)
        except Exception as error:  # noqa: BLE001 - top of a thread: a bug in a callback costs only its answer
            get_logger().error("status_page_failed", error=error)
        finally:
            self._free.release()

    def _snapshot(self) -> str:
        return self._clean(json.dumps(self._status(), default=str))


def split_address(addr: str) -> tuple[str, int]:
    """Return HOST:PORT or [HOST]:PORT as a pair. Raises: ValueError."""
    host, colon, port = addr.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("expected HOST:PORT")
    return host.strip("[]"), int(port)


def _verdict(good: bool) -> tuple[int, str, bytes]:
    return (200, TEXT, b"ok\n") if good else (503, TEXT, b"not ok\n")
