"""The gateway's connections to what a worker has published: plain, by name, each tried once.

Names are resolved by the host's resolver. Nothing here times out early: a dial that hangs is to be seen as one.
"""

from __future__ import annotations

import http.client
import socket
import time

from agent.demo.messages import Reply, Request
from agent.demo.serving.containers import ENDPOINT, Container, split_address

HANG_S = 30.0
"""After this a connection counts as hanging."""
_KEPT_HEADERS = frozenset({"content-type", "location"})


def probe(container: Container) -> bool:
    """Return whether a container is ready. Raises: OSError."""
    if container.kind == ENDPOINT:
        return fetch(container.address, Request("GET", "/health")).status == 200
    with socket.create_connection(split_address(container.address), HANG_S):
        return True


def fetch(address: str, request: Request) -> Reply:
    """Pass a request on and return the reply. Raises: OSError.

    As on the real gateway, a connection that ends without an answer becomes an empty reply with status 200.
    """
    connection = http.client.HTTPConnection(*split_address(address), timeout=HANG_S)
    path = f"{request.path}?{request.query}" if request.query else request.path
    headers = {name: request.headers[name] for name in _KEPT_HEADERS & request.headers.keys()}
    try:
        connection.request(request.method, path, request.body or None, {**headers, "Connection": "close"})
        reply = connection.getresponse()
        kept = {name: value for name, value in reply.getheaders() if name.lower() in _KEPT_HEADERS}
        return Reply(reply.status, reply.read(), kept)
    except http.client.RemoteDisconnected:
        return Reply(200, b"")
    except http.client.HTTPException as error:
        raise ConnectionError(f"no HTTP: {error!r}") from error
    finally:
        connection.close()


def dial(host: str, port: int, text: str = "") -> dict[str, object]:
    """Connect, send `text`, and return what comes back until the far end closes, or why the dial failed."""
    began_s = time.monotonic()
    try:
        with socket.create_connection((host, port), HANG_S) as connection:
            took_s = time.monotonic() - began_s
            connection.sendall(text.encode())
            connection.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
            return {"answer": received.decode(errors="replace"), "error": "", "took_s": took_s}
    except OSError as error:
        text = error.strerror or str(error)
        return {"answer": "", "error": text, "took_s": time.monotonic() - began_s}
