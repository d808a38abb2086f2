"""An HTTP session that can be hung up from another thread, whatever it is doing just then.

requests' own time-outs start anew with every byte, and a session is not made for two threads at once: so a call
that outlived its time limit, or that nobody waits for any more, is ended by shutting its socket down.
"""

from __future__ import annotations

import contextlib
import socket
import threading
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
        # A proxy or a .netrc of this machine must never see, or replace, the machine token.
        self._session.trust_env = False
        self._session.mount("http://", _adapter(self))
        self.used = False
        """Whether a call was made with it: its connection may have died since."""

    def post(self, url: str, **options: Any) -> requests.Response:
        """As `requests.Session.post`."""
        self.used = True
        return self._session.post(url, **options)

    def hang_up(self) -> None:
        """End what is going on, and all that would follow: this session is of no use afterwards."""
        self.hung_up.set()
        for connected in list(self._sockets):
            # Already closed by the other side: nothing is left to hang up.
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Drop its connections. Only for the thread that uses it."""
        self._session.close()
        # A connection whose reply could not be read was not given back to the session.
        for connected in self._sockets:
            connected.close()
        self._sockets.clear()

    def connected(self, to: socket.socket) -> None:
        """Note a new connection. Raises: ConnectionAbortedError where it was hung up meanwhile."""
        # The socket itself is kept: a reply with `Connection: close` takes it from its connection while read.
        self._sockets[:] = [to]
        if self.hung_up.is_set():
            raise ConnectionAbortedError("hung up before it was connected")


def _adapter(session: HttpSession) -> requests.adapters.HTTPAdapter:
    import requests
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool

    class Connection(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            session.connected(self.sock)

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
    adapter.poolmanager.pool_classes_by_scheme = {"http": Pool}
    return adapter
