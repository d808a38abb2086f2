"""An HTTP session that another thread can interrupt at any time.

requests' own time-outs start again with every byte, and a session must not be used by two threads. So a call
that exceeds its time limit, or whose result is no longer needed, is ended by shutting its socket down.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests


class HttpSession:
    """One `requests.Session` for one thread at a time; `hang_up` may come from any other."""

    def __init__(self) -> None:
        import requests

        self.hung_up = threading.Event()
        self._sockets: list[socket.socket] = []
        self._session = requests.Session()
        # No proxy may see the machine token, and no .netrc may replace it.
        self._session.trust_env = False
        self._session.mount("http://", _adapter(self))
        self.used = False
        """Whether a call was made with it; its connection may have died since then."""

    def post(
        self, url: str, body: dict[str, Any], headers: Mapping[str, str], timeout_s: tuple[float, float]
    ) -> requests.Response:
        """Post JSON, follow no redirect, and return the response with its body unread.

        `timeout_s` is for connecting and for each read. Raises: as `requests.Session.post`.
        """
        self.used = True
        return self._session.post(
            url, json=body, headers=headers, timeout=timeout_s, allow_redirects=False, stream=True
        )

    def hang_up(self) -> None:
        """End the current call and refuse all later ones: the session is unusable afterwards."""
        self.hung_up.set()
        for connected in list(self._sockets):
            # The other side may have closed it already.
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close its connections. Only for the thread that uses the session."""
        self._session.close()
        # requests does not get back a connection whose reply could not be read.
        for connected in self._sockets:
            connected.close()
        self._sockets.clear()

    def on_connected(self, connected: socket.socket) -> None:
        """Remember a new connection. Raises: ConnectionAbortedError if the session was hung up in the meantime."""
        # Keep the socket itself: the connection object gives it away while it reads a reply with `Connection: close`.
        self._sockets[:] = [connected]
        if self.hung_up.is_set():
            raise ConnectionAbortedError("hung up before it was connected")


def _adapter(session: HttpSession) -> requests.adapters.HTTPAdapter:
    import requests
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool

    class Connection(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            session.on_connected(self.sock)

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
    adapter.poolmanager.pool_classes_by_scheme = {"http": Pool}
    return adapter
