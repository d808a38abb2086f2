"""A web server whose first replies fail as they do on bad lines, and a proxy: real sockets on loopback."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

RESET, HALF_AND_RESET, HALF_AND_CLOSE, HALF_AND_SILENCE = (
    "reset",
    "half, reset",
    "half, close",
    "half, silence",
)
UNAVAILABLE, WHOLE = "503", "whole"


@dataclass
class Server:
    """Sends `content` to every GET, after one failure each of `faults`. `requests` has the paths asked for."""

    content: bytes
    faults: list[str]
    url: str = ""
    requests: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def answer(self, connection: socket.socket) -> None:
        head = read_head(connection)
        if not head:
            return
        self.requests.append(head.split()[1])
        fault = self.faults.pop(0) if self.faults else WHOLE
        half = self.content[: len(self.content) // 2]
        reply = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(self.content)
        if fault == UNAVAILABLE:
            connection.sendall(b"HTTP/1.1 503 Later\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        elif fault != RESET:
            connection.sendall(reply + (self.content if fault == WHOLE else half))
        if fault == HALF_AND_SILENCE:
            self.closing.wait(300)
        if fault in (RESET, HALF_AND_RESET):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass
class Proxy:
    """Forwards requests for `http://*.invalid` to `target`, refuses all else, and demands a login if there is one."""

    target: str
    login: str = ""
    url: str = ""
    requests: list[str] = field(default_factory=list)

    def answer(self, connection: socket.socket) -> None:
        head, _, body = read_head(connection).partition("\r\n\r\n")
        if not head:
            return
        method, url = head.split()[:2]
        self.requests.append(f"{method} {url}")
        wanted = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if self.login and f"proxy-authorization: {wanted}".lower() not in head.lower():
            connection.sendall(b"HTTP/1.1 407 Login\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        elif method == "CONNECT" or not (urlsplit(url).hostname or "").endswith(".invalid"):
            connection.sendall(b"HTTP/1.1 502 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        else:
            self.forward(connection, head, body)

    def forward(self, connection: socket.socket, head: str, body: str) -> None:
        to, (first, *fields) = urlsplit(self.target), head.split("\r\n")
        method, url, version = first.split()
        fields = [field for field in fields if not field.lower().startswith(("proxy-", "connection:"))]
        size = next((int(f.split(":")[1]) for f in fields if f.lower().startswith("content-length:")), 0)
        while len(body) < size:
            body += connection.recv(65536).decode()
        first = f"{method} {urlsplit(url).path or '/'} {version}"
        with socket.create_connection((to.hostname or "", to.port or 80), timeout=60) as onward:
            onward.sendall("\r\n".join([first, *fields, "Connection: close", "", body]).encode())
            while data := onward.recv(65536):
                connection.sendall(data)


AnyServer = TypeVar("AnyServer", Server, Proxy)


def read_head(connection: socket.socket) -> str:
    """Return a request up to its empty line, or "" if the client hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return ""
        data += more
    return data.decode()


@contextlib.contextmanager
def serving(server: AnyServer) -> Iterator[AnyServer]:
    """Answer on a free port of loopback until the end."""
    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))
    server.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            server.answer(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed below
                return
            threads.append(threading.Thread(target=one, args=(connection,)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield server
    finally:
        if isinstance(server, Server):
            server.closing.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (acceptor, *threads):
            thread.join()
