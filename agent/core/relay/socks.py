"""SOCKS4 as OpenSSH's remote dynamic forwarding speaks it: one request, one answer.

SOCKS4 rather than SOCKS5, because it takes one round trip through the tunnel instead of two. OpenSSH grants a request
once the connection is up, and refuses one by closing the stream: its answer never says why.
"""

from __future__ import annotations

import struct
from enum import Enum
from ipaddress import IPv4Address

REPLY_BYTES = 8
_CONNECT = struct.Struct("!BBH4s")
_VERSION, _CONNECT_COMMAND, _REPLY_VERSION, _GRANTED = 4, 1, 0, 90


class Answer(Enum):
    """What the bytes read so far mean."""

    GRANTED = "granted"
    REFUSED = "refused"
    INCOMPLETE = "incomplete"


def connect_request(address: IPv4Address, port: int) -> bytes:
    """Return the request for a connection to this address, with an empty user id."""
    return _CONNECT.pack(_VERSION, _CONNECT_COMMAND, port, address.packed) + b"\0"


def read_answer(received: bytes, *, ended: bool = False) -> Answer:
    """Interpret what has been received in answer; `ended`: the stream has ended, nothing more will come."""
    if not bytes((_REPLY_VERSION, _GRANTED)).startswith(received[:2]):
        return Answer.REFUSED
    if len(received) >= REPLY_BYTES:
        return Answer.GRANTED
    return Answer.REFUSED if ended else Answer.INCOMPLETE
