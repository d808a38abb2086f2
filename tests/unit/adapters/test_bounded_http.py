"""One deadline for a whole HTTP exchange, against real sockets that dribble, stall, cut off and talk too much."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, IncompleteRead

import pytest

from agent.adapters.bounded_http import connect, exchange, remaining_s

LIMIT_S = 0.5
SLOW_S = 10.0
"""What a loaded machine may add before a test calls the deadline broken."""
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Server:
    """Answers every request on a connection with `reply`; with `pause_s`, one byte at a time."""

    def __init__(self, reply: bytes, pause_s: float = 0.0, *, hang_up: bool = False) -> None:
        self.reply = reply
        self.pause_s = pause_s
        self.hang_up = hang_up
        self.connections = 0
        self.requests: list[bytes] = []
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(SLOW_S)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed by the test
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with connection, contextlib.suppress(OSError):  # the client gave up
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        while request := connection.recv(4096):
            self.requests.append(request)
            size = 1 if self.pause_s else len(self.reply) or 1
            for start in range(0, len(self.reply), size):
                connection.sendall(self.reply[start : start + size])
                if self._stopped.wait(self.pause_s):
                    return
            if self.hang_up:
                return


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(REPLY)
    yield made
    made.close()


@pytest.fixture
def connection(server: Server) -> Iterator[HTTPConnection]:
    made = HTTPConnection("127.0.0.1", server.port)
    yield made
    made.close()


def get(connection: HTTPConnection, limit_bytes: int = 1000, limit_s: float = SLOW_S) -> tuple[int, bytes]:
    return exchange(
        connection, "GET", "/path", deadline_s=time.monotonic() + limit_s, limit_bytes=limit_bytes
    )


def test_status_and_body_are_returned_and_the_connection_is_kept(
    server: Server, connection: HTTPConnection
) -> None:
    assert get(connection) == (200, b"hello")
    assert get(connection, limit_bytes=5) == (200, b"hello")
    assert server.connections == 1
    assert server.requests[0].startswith(b"GET /path HTTP/1.1\r\n")


def test_method_headers_and_body_are_sent(server: Server, connection: HTTPConnection) -> None:
    deadline_s = time.monotonic() + SLOW_S
    exchange(
        connection, "PUT", "/", deadline_s=deadline_s, limit_bytes=10, body="{}", headers={"X-Answer": "42"}
    )
    sent = b"".join(server.requests)
    assert sent.startswith(b"PUT / HTTP/1.1\r\n")
    assert b"\r\nX-Answer: 42\r\n" in sent


def test_a_body_that_ends_with_the_connection_is_read_whole(
    server: Server, connection: HTTPConnection
) -> None:
    server.reply, server.hang_up = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 900, True
    assert get(connection) == (200, b"x" * 900)
    server.reply, server.hang_up = REPLY, False
    assert get(connection) == (200, b"hello"), "it connects again"
    assert server.connections == 2


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-Filler: x\r\n" * 50 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"x" * 500,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100 + b"0\r\n\r\n",
    ],
    ids=["header", "body", "chunks"],
)
def test_bytes_that_dribble_do_not_move_the_deadline(
    server: Server, connection: HTTPConnection, reply: bytes
) -> None:
    server.reply, server.pause_s = reply, 0.02
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        get(connection, limit_s=LIMIT_S)
    assert LIMIT_S * 0.9 < time.monotonic() - began_s < LIMIT_S + SLOW_S


def test_silence_ends_at_the_deadline(server: Server, connection: HTTPConnection) -> None:
    server.reply = b""
    with pytest.raises(TimeoutError):
        get(connection, limit_s=0.1)


def test_a_deadline_that_has_passed_sends_nothing(server: Server, connection: HTTPConnection) -> None:
    with pytest.raises(TimeoutError):
        get(connection, limit_s=-1)
    assert server.requests == []
    with pytest.raises(TimeoutError):
        remaining_s(time.monotonic())


def test_a_longer_body_than_allowed_is_an_error(connection: HTTPConnection) -> None:
    with pytest.raises(HTTPException, match="the reply is longer than 4 bytes"):
        get(connection, limit_bytes=4)


def test_a_reply_that_is_cut_short_is_an_error(server: Server, connection: HTTPConnection) -> None:
    server.reply, server.hang_up = REPLY[:-2], True
    with pytest.raises(IncompleteRead, match=r"3 bytes read, 2 more expected"):
        get(connection)


def test_what_is_not_http_is_an_error(server: Server, connection: HTTPConnection) -> None:
    server.reply, server.hang_up = b"SSH-2.0-OpenSSH_9.6\r\n", True
    with pytest.raises(HTTPException, match=r"SSH-2\.0"):
        get(connection)


def test_connecting_shares_the_time_among_a_name_s_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """One address that refuses and one that is silent (its queue of connections is full) stand before the right one."""
    with contextlib.ExitStack() as stack:
        serving = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        silent = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        refusing = ("127.0.0.3", serving.getsockname()[1])
        found = [refusing, silent.getsockname(), serving.getsockname()]
        entries = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in found]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
        with connect("several.test", 80, time.monotonic() + SLOW_S) as connected:
            assert connected.getpeername() == serving.getsockname()
        del entries[2]
        with pytest.raises(TimeoutError):
            connect("several.test", 80, time.monotonic() + LIMIT_S)
        entries.reverse()
        with pytest.raises(ConnectionRefusedError):
            connect("several.test", 80, time.monotonic() + LIMIT_S)
