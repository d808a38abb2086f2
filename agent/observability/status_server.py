"""The status page's port: `/healthz`, `/readyz`, `/status`, `/metrics`, each answered by a call back.

Bounded: CONNECTIONS_MAX at a time, one request each. A web page in somebody's browser cannot read it by
pointing a name of its own at loopback (DNS rebinding): on loopback the Host header must name loopback.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

from agent.observability.logs import get_logger

CONNECTIONS_MAX = 16
CLOSE_S = 5.0
NO_DESCRIPTORS_S = 0.5
"""Pause when no connection can be taken now: out of descriptors, or of threads."""
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""

Status = Callable[[], dict[str, Any]]
Check = Callable[[], bool]


def render_metrics(status: dict[str, Any]) -> bytes:
    """The page for Prometheus. Its library is imported with the first scrape."""
    from agent.observability.metrics import render

    return render(status)


class StatusServer:
    """Serves `status` as JSON and as metrics, and `live` and `ready` as 200 or 503.

    All are called on its threads. `addr` is HOST:PORT or [HOST]:PORT; port 0: any. `clean` takes secrets
    out of what is shown.
    """

    def __init__(  # noqa: PLR0913 - what it shows comes from all over the agent
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
        """Where it listens, None when it does not."""
        return None if self._listener is None else int(self._listener.getsockname()[1])

    def start(self) -> str | None:
        """Listen and serve. Returns None, or why that cannot be: the agent goes on without."""
        try:
            host, port = split_address(self._addr)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family, backlog=CONNECTIONS_MAX)
        except (OSError, ValueError) as error:
            return f"no status page on {self._addr} ({error}); set BETA9_STATUS_ADDR to a free address"
        loopback_only = self._listener.getsockname()[0] in ("127.0.0.1", "::1")
        arguments = (self._listener, loopback_only)
        self._thread = threading.Thread(target=self._serve, args=arguments, name="status", daemon=True)
        self._thread.start()
        return None

    def stop(self) -> None:
        """Close the port. Safe to call twice, or without `start`."""
        listener, self._listener = self._listener, None
        if listener is None or self._thread is None:
            return
        self._stopping.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for connections
        self._thread.join(CLOSE_S)
        listener.close()

    def _serve(self, listener: socket.socket, loopback_only: bool) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:  # the port was closed, the caller has gone, or there are no descriptors
                self._stopping.wait(NO_DESCRIPTORS_S)
                continue
            if not self._free.acquire(blocking=False):
                connection.close()
                continue
            try:
                threading.Thread(
                    target=self._talk, args=(connection, loopback_only), name="status-request", daemon=True
                ).start()
            except RuntimeError:  # no more threads
                connection.close()
                self._free.release()

    def _talk(self, connection: socket.socket, loopback_only: bool) -> None:
        try:
            from agent.observability.status_page import answer

            with connection, contextlib.suppress(OSError):  # one that does not wait for its answer
                answer(connection, self._routes, loopback_only=loopback_only)
        except Exception as error:  # noqa: BLE001 - the top of a thread: a bug in a call back costs its answer
            get_logger().error("status_page_failed", error=error)
        finally:
            self._free.release()

    def _snapshot(self) -> str:
        return self._clean(json.dumps(self._status(), default=str))


def split_address(addr: str) -> tuple[str, int]:
    """HOST:PORT or [HOST]:PORT as a pair. Raises: ValueError."""
    host, colon, port = addr.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("not of the form HOST:PORT")
    return host.strip("[]"), int(port)


def _verdict(good: bool) -> tuple[int, str, bytes]:
    return (200, TEXT, b"ok\n") if good else (503, TEXT, b"not ok\n")
