"""DNS messages (RFC 1035): read the one question of a query, and write the answer to it.

Not a library's job here: the relay runs from the release's tree on the gateway's host, with Python alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address

UDP_BYTES = 512
"""Longest query read by UDP. Answers are shorter: they hold the question and at most one address."""
A, ANY, IN = 1, 255, 1

_HEADER = struct.Struct("!HHHHHH")
_QUESTION_END = struct.Struct("!HH")
_RECORD = struct.Struct("!HHHIH")
_NAME_OF_QUESTION = 0xC000 | _HEADER.size
_RESPONSE, _OPCODE, _AUTHORITATIVE, _RECURSION_DESIRED = 0x8000, 0x7800, 0x0400, 0x0100
_LONGEST_LABEL, _LONGEST_NAME = 63, 255
_OPT = b"\0\0\x29"
"""Owner and type of an EDNS record (RFC 6891), which modern resolvers append."""
_OWN_OPT = _OPT + struct.pack("!HIH", 1232, 0, 0)


class Code(IntEnum):
    """Response codes."""

    NO_ERROR = 0
    NO_SUCH_NAME = 3
    NOT_IMPLEMENTED = 4
    REFUSED = 5


@dataclass(frozen=True)
class Query:
    """A query with its question; `question` is what has to be repeated in the answer."""

    number: int
    flags: int
    name: str
    kind: int
    record_class: int
    question: bytes
    extended: bool

    @property
    def is_standard(self) -> bool:
        return not self.flags & _OPCODE


def read_query(message: bytes) -> Query | None:
    """Return the query, or None for anything else, which deserves no answer."""
    if len(message) < _HEADER.size:
        return None
    number, flags, questions, answers, authorities, _ = _HEADER.unpack_from(message)
    if flags & _RESPONSE or (questions, answers, authorities) != (1, 0, 0):
        return None
    found = _read_name(message, _HEADER.size)
    if found is None or len(message) < found[1] + _QUESTION_END.size:
        return None
    name, end = found
    kind, record_class = _QUESTION_END.unpack_from(message, end)
    end += _QUESTION_END.size
    question = message[_HEADER.size : end]
    return Query(number, flags, name, kind, record_class, question, message[end : end + 3] == _OPT)


def _read_name(message: bytes, start: int) -> tuple[str, int] | None:
    """Return a name in lower case and where it ends. Pointers have no place in a query's only question."""
    labels: list[str] = []
    at = start
    while at < len(message) and at - start < _LONGEST_NAME:
        length = message[at]
        at += 1
        if length == 0:
            return ".".join(labels), at
        label = message[at : at + length]
        if length > _LONGEST_LABEL or len(label) < length:
            return None
        # A dot inside a label must not pass for one between labels.
        labels.append(label.decode("latin-1").lower().replace(".", "\\."))
        at += length
    return None


def reply(query: Query, code: Code, *, address: str | None = None, ttl_s: int = 0) -> bytes:
    """Return the answer, with the address if there is one."""
    flags = _RESPONSE | query.flags & (_OPCODE | _RECURSION_DESIRED) | code
    if code in {Code.NO_ERROR, Code.NO_SUCH_NAME}:
        flags |= _AUTHORITATIVE
    head = _HEADER.pack(query.number, flags, 1, int(address is not None), 0, int(query.extended))
    record = b""
    if address is not None:
        record = _RECORD.pack(_NAME_OF_QUESTION, A, IN, ttl_s, 4) + IPv4Address(address).packed
    return head + query.question + record + (_OWN_OPT if query.extended else b"")
