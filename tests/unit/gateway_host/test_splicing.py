"""Joined connections, on loopback: data, ends, breaks, and readers that do not read."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from agent.gateway_host.reactor import Reactor
from agent.gateway_host.splicing import Pair

RESET = struct.pack("ii", 1, 0)


@dataclass
class Joined:
    """The outer ends of a pair, which a thread of its own joins."""

    dialler: socket.socket
    machine: socket.socket
    inner_dialler: socket.socket
    thread: threading.Thread
    reactor: Reactor
    closed: list[Pair]
    cpu_s: list[float]


@pytest.fixture
def joined() -> Iterator[Joined]:
    reactor = Reactor()
    (dialler, inner_dialler), (machine, inner_machine) = _connected(), _connected()
    closed: list[Pair] = []
    cpu_s: list[float] = []
    Pair(reactor, inner_dialler, inner_machine, closed.append)

    def run() -> None:
        reactor.run()
        cpu_s.append(time.thread_time())

    thread = threading.Thread(target=run)
    thread.start()
    with dialler, machine:
        yield Joined(dialler, machine, inner_dialler, thread, reactor, closed, cpu_s)
    _stop(reactor, thread)
    for inner in (inner_dialler, inner_machine):
        inner.close()
    reactor.close()


def _stop(reactor: Reactor, thread: threading.Thread) -> None:
    reactor.stop()
    thread.join(30)
    assert not thread.is_alive()


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outer = socket.socket()
        outer.settimeout(30)
        outer.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 4096
        )  # a reader that does not read is soon stuck
        outer.connect(listener.getsockname())
        return outer, listener.accept()[0]


def _read_all(connection: socket.socket) -> bytes:
    received = bytearray()
    while chunk := connection.recv(1 << 16):
        received += chunk
    return bytes(received)


def _wait_closed(joined: Joined) -> Pair:
    deadline_s = time.monotonic() + 30
    while not joined.closed:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return joined.closed[0]


def test_each_direction_ends_on_its_own(joined: Joined) -> None:
    joined.dialler.sendall(b"question")
    joined.dialler.shutdown(socket.SHUT_WR)
    assert _read_all(joined.machine) == b"question"
    joined.machine.sendall(b"a longer answer")
    joined.machine.shutdown(socket.SHUT_WR)
    assert _read_all(joined.dialler) == b"a longer answer"
    pair = _wait_closed(joined)
    assert (pair.sent_bytes, pair.received_bytes) == (8, 15)


def test_what_a_reader_does_not_take_waits_and_arrives_whole(joined: Joined) -> None:
    data = os.urandom(4 << 20)

    def send() -> None:
        joined.machine.sendall(data)
        joined.machine.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    joined.dialler.sendall(b"meanwhile")  # the other direction goes on
    assert joined.machine.recv(9, socket.MSG_WAITALL) == b"meanwhile"
    assert _read_all(joined.dialler) == data
    sender.join(30)


def test_a_stuck_connection_that_both_sides_have_ended_costs_no_cpu_time(joined: Joined) -> None:
    """epoll reports such a connection as hung up for as long as it is watched."""
    joined.inner_dialler.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    joined.dialler.shutdown(socket.SHUT_WR)
    assert joined.machine.recv(1) == b""
    joined.machine.sendall(
        bytes(64 << 10)
    )  # more than the dialler's side takes, less than the machine's side holds
    joined.machine.shutdown(socket.SHUT_WR)
    time.sleep(1)  # what it costs meanwhile is the question
    joined.reactor.stop()
    joined.thread.join(30)
    assert joined.closed == []
    assert joined.cpu_s[0] < 0.2


@pytest.mark.parametrize("side", ["dialler", "machine"])
def test_a_break_reaches_the_other_side_as_one(joined: Joined, side: str) -> None:
    broken, other = joined.dialler, joined.machine
    if side == "machine":
        broken, other = other, broken
    broken.sendall(b"part")
    assert other.recv(4, socket.MSG_WAITALL) == b"part"
    broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    broken.close()
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    _wait_closed(joined)
