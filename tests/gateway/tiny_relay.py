"""The least that a relay must do for one machine: pass its addresses' port 6443 on to its SOCKS listener.

It stands in for the relay in tests of the worker's side alone. It accepts before the far end has answered, which the
real one must not.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from agent.core.hairpin.layout import Layout
from agent.core.tunnel.ssh_argv import K3S_PORT, SOCKS_PORT
from tests.integration.netns import Place

TIMEOUT_S = 5.0


def socks_dial(place: Place, address: str, port: int, target: str = Layout().inner) -> socket.socket:
    """Ask a machine's listener for a port (RFC 1928, without authentication). Raises: OSError if it refuses."""
    with place.inside():
        stream = socket.create_connection((address, SOCKS_PORT), TIMEOUT_S)
    try:
        stream.sendall(b"\x05\x01\x00")
        if stream.recv(2) != b"\x05\x00":
            raise ConnectionRefusedError("no SOCKS here")
        stream.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(target) + port.to_bytes(2, "big"))
        reply = stream.recv(10)
        if reply[:2] != b"\x05\x00":
            raise ConnectionRefusedError("refused by the far end")
    except OSError:
        stream.close()
        raise
    return stream


@contextmanager
def tiny_relay(place: Place, addresses: Sequence[str]) -> Iterator[None]:
    """Listen on 6443 of these addresses until the end of the block."""
    with place.inside():
        listeners = [socket.create_server((address, K3S_PORT)) for address in addresses]
    open_ones: list[socket.socket] = []
    threads = [
        threading.Thread(target=_serve, args=(place, listener, address, open_ones), daemon=True)
        for listener, address in zip(listeners, addresses, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for each in [*listeners, *open_ones]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in threads:
            thread.join(10)


def _serve(place: Place, listener: socket.socket, address: str, open_ones: list[socket.socket]) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        open_ones.append(near)
        threading.Thread(target=_pass_on, args=(place, near, address, open_ones), daemon=True).start()


def _pass_on(place: Place, near: socket.socket, address: str, open_ones: list[socket.socket]) -> None:
    try:
        far = socks_dial(place, address, K3S_PORT)
    except OSError:
        near.close()
        return
    open_ones.append(far)
    far.settimeout(None)
    back = threading.Thread(target=_copy, args=(far, near), daemon=True)
    back.start()
    _copy(near, far)
    back.join(TIMEOUT_S)
    near.close()
    far.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
