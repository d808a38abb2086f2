"""A netfilter queue: packets that a rule holds back until this process gives a verdict on each.

Speaks netlink itself, because no maintained library does so without a compiler: pyroute2 has no queue, NetfilterQueue
and fnfqueue are C. Constants and layouts: linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter.h and
linux/netfilter/nfnetlink_queue.h. Needs CAP_NET_ADMIN.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from agent.errors import SettingsError

ACCEPT, DROP, REPEAT = 1, 0, 4
"""NF_ACCEPT: go on to the next hook; NF_DROP; NF_REPEAT: go through the same hook again, with the new mark."""

_NETLINK_NETFILTER = 12
_NLM_F_REQUEST, _NLM_F_ACK = 1, 4
_NLMSG_ERROR = 2
_SUBSYSTEM_QUEUE = 3 << 8
_PACKET, _VERDICT, _CONFIG = 0, 1, 2
_NFQA_PACKET_HDR, _NFQA_VERDICT_HDR, _NFQA_MARK, _NFQA_PAYLOAD = 1, 2, 3, 10
_CFG_CMD, _CFG_PARAMS, _CFG_MAXLEN, _CFG_MASK, _CFG_FLAGS = 1, 2, 3, 4, 5
_CMD_BIND, _COPY_PACKET, _FLAG_FAIL_OPEN = 1, 2, 1
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_NETLINK_NO_ENOBUFS, _SOL_NETLINK = 5, 270

_MESSAGE = struct.Struct("=IHHII")
_FAMILY = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
_PORTS = struct.Struct("!HHI")
_HEADERS_BYTES = 60 + 8
"""The longest IPv4 header, and TCP's ports and sequence number."""
_LENGTH = 8192
"""Packets that may wait at once. More fail open: they go on without a mark, and the rules reset them."""
_BUFFER_BYTES = 4 << 20
_READ_BYTES = 65536


@dataclass(frozen=True)
class Syn:
    """A packet that opens a connection. A retransmission equals the original in all but `packet_id`."""

    packet_id: int
    source: str
    source_port: int
    destination: str
    destination_port: int
    sequence: int

    @property
    def connection(self) -> tuple[str, int, str, int, int]:
        """What identifies the attempt to connect."""
        return (self.source, self.source_port, self.destination, self.destination_port, self.sequence)


class Queue:
    """The queue of this number in this network namespace. Raises: SettingsError if it cannot be had."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        )
        try:
            self._socket.bind((0, 0))
            self._configure({_CFG_CMD: struct.pack("!BBH", _CMD_BIND, 0, socket.AF_INET)})
            self._configure({_CFG_PARAMS: struct.pack("!IB", _HEADERS_BYTES, _COPY_PACKET)})
            fail_open = struct.pack("!I", _FLAG_FAIL_OPEN)
            length = struct.pack("!I", _LENGTH)
            self._configure({_CFG_MAXLEN: length, _CFG_FLAGS: fail_open, _CFG_MASK: fail_open})
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
        except OSError as error:
            self._socket.close()
            raise SettingsError(_why(number, error)) from error
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def packets(self) -> Iterator[Syn]:
        """Yield the packets that wait, until there is none."""
        while True:
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                return
            for kind, body in _messages(data):
                if kind == _SUBSYSTEM_QUEUE | _PACKET:
                    yield _syn(body)

    def decide(self, packet_id: int, verdict: int, mark: int = 0) -> None:
        """Give the verdict on a packet; a mark replaces the packet's own."""
        attributes = _attribute(_NFQA_VERDICT_HDR, struct.pack("!II", verdict, packet_id))
        if mark:
            attributes += _attribute(_NFQA_MARK, struct.pack("!I", mark))
        self._socket.send(self._message(_VERDICT, _NLM_F_REQUEST, attributes))

    def close(self) -> None:
        """Give the queue up. Packets that still wait are dropped by the kernel; their senders try again."""
        self._socket.close()

    def _configure(self, settings: dict[int, bytes]) -> None:
        """Send one request with these attributes and wait for its acknowledgement. Raises: OSError."""
        attributes = b"".join(_attribute(kind, value) for kind, value in settings.items())
        self._socket.send(self._message(_CONFIG, _NLM_F_REQUEST | _NLM_F_ACK, attributes))
        for kind, body in _messages(self._socket.recv(_READ_BYTES)):
            code = -struct.unpack_from("=i", body)[0] if kind == _NLMSG_ERROR else 0
            if code:
                raise OSError(code, os.strerror(code))

    def _message(self, kind: int, flags: int, attributes: bytes) -> bytes:
        body = _FAMILY.pack(socket.AF_UNSPEC, 0, self._number) + attributes
        return _MESSAGE.pack(_MESSAGE.size + len(body), _SUBSYSTEM_QUEUE | kind, flags, 0, 0) + body


def _why(number: int, error: OSError) -> str:
    if error.errno == errno.EPERM:
        return "the relay lacks CAP_NET_ADMIN; start it by its systemd unit, which grants this"
    if error.errno == errno.EBUSY:
        return f"netfilter queue {number} belongs to another process; stop that, or choose another --queue"
    return f"netfilter queue {number} cannot be used ({error}); the kernel needs its module nfnetlink_queue"


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the body of each netlink message."""
    at = 0
    while at + _MESSAGE.size <= len(data):
        length, kind, _, _, _ = _MESSAGE.unpack_from(data, at)
        yield kind, data[at + _MESSAGE.size : at + length]
        at += max((length + 3) & ~3, _MESSAGE.size)


def _attributes(data: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += max((length + 3) & ~3, _ATTRIBUTE.size)
    return found


def _syn(body: bytes) -> Syn:
    attributes = _attributes(body, _FAMILY.size)
    (packet_id,) = struct.unpack_from("!I", attributes[_NFQA_PACKET_HDR])
    packet = attributes[_NFQA_PAYLOAD]
    header_bytes = (packet[0] & 0x0F) * 4
    source_port, destination_port, sequence = _PORTS.unpack_from(packet, header_bytes)
    return Syn(
        packet_id,
        socket.inet_ntoa(packet[12:16]),
        source_port,
        socket.inet_ntoa(packet[16:20]),
        destination_port,
        sequence,
    )
