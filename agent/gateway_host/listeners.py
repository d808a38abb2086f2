"""Which TCP sockets listen on this host: asked of the kernel, which walks its listeners only, however many connections
there are.

Constants and layouts: linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h. Needs no privilege.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from agent.core.relay.names import Listener
from agent.errors import TransientError

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_LISTEN = 1 << 10  # 1 << TCP_LISTEN, net/tcp_states.h
_BUFFER_BYTES = 1 << 16

_MESSAGE = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")
_SOCKET = struct.Struct("=4x" + "2s2x4s" + "56x" + "I")
"""inet_diag_msg as far as we read it: source port, source address and inode."""


def listeners() -> list[Listener]:
    """Return every IPv4 listener. Raises: TransientError."""
    try:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
        ) as ask:
            request = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _LISTEN)
            length = _MESSAGE.size + len(request)
            ask.send(
                _MESSAGE.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0) + request
            )
            return list(_read(ask))
    except OSError as error:
        raise TransientError(f"cannot list this host's listeners: {error.strerror}") from error


def _read(answers: socket.socket) -> Iterator[Listener]:
    while True:
        data, at = answers.recv(_BUFFER_BYTES), 0
        while at < len(data):
            length, kind, *_ = _MESSAGE.unpack_from(data, at)
            body = at + _MESSAGE.size
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", data, body)[0]
                raise OSError(number, os.strerror(number))
            port, address, inode = _SOCKET.unpack_from(data, body)
            yield Listener(socket.inet_ntoa(address), int.from_bytes(port, "big"), inode)
            at += (length + 3) & ~3
