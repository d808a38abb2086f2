"""DNS messages on the wire, against bytes that other programs sent."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.relay.dns_messages import A, Code, read_query, reply

# What dig 9.18.49 sent for `dig machine-1165a9b6.beta9.tailnet.example`, with +noedns and without.
QUESTION = b"\x10machine-1165a9b6\x05beta9\x07tailnet\x07example\x00\x00\x01\x00\x01"
PLAIN = bytes.fromhex("1ee9 0120 0001 0000 0000 0000") + QUESTION
EXTENDED = (
    bytes.fromhex("39f2 0120 0001 0000 0000 0001")
    + QUESTION
    + bytes.fromhex("00 0029 04d0 0000 0000 000c 000a 0008 d91b10e12f0aeaa8")
)


def test_a_query_is_read() -> None:
    query = read_query(PLAIN)
    assert query is not None
    assert (query.number, query.name, query.kind) == (0x1EE9, "machine-1165a9b6.beta9.tailnet.example", A)
    assert (query.is_standard, query.extended) == (True, False)


def test_a_name_is_read_in_lower_case_and_answered_as_it_was_asked() -> None:
    """Resolvers mix cases on purpose, and drop an answer that does not repeat them."""
    mixed = PLAIN.replace(b"machine", b"mAcHiNe")
    query = read_query(mixed)
    assert query is not None
    assert query.name == "machine-1165a9b6.beta9.tailnet.example"
    assert mixed[12:] in reply(query, Code.NO_SUCH_NAME)


def test_an_answer_has_the_address() -> None:
    query = read_query(PLAIN)
    assert query is not None
    # RFC 1035, 4.1: QR, AA and RD as asked; one question, one answer, which points to the question's name.
    assert reply(query, Code.NO_ERROR, address="127.86.127.219", ttl_s=1) == (
        bytes.fromhex("1ee9 8500 0001 0001 0000 0000")
        + QUESTION
        + bytes.fromhex("c00c 0001 0001 00000001 0004 7f567fdb")
    )


def test_an_extended_query_gets_an_extended_answer() -> None:
    query = read_query(EXTENDED)
    assert query is not None
    answer = reply(query, Code.REFUSED)
    assert answer == bytes.fromhex("39f2 8105 0001 0000 0000 0001") + QUESTION + bytes.fromhex(
        "00 0029 04d0 00000000 0000"
    )


@pytest.mark.parametrize(
    "message",
    [
        b"",
        PLAIN[:11],
        PLAIN[:-1],
        PLAIN[:20],
        b"\x1e\xe9\x81\x20" + PLAIN[4:],
        PLAIN[:5] + b"\x02" + PLAIN[6:],
        PLAIN[:5] + b"\x00" + PLAIN[6:],
        PLAIN[:7] + b"\x01" + PLAIN[8:],
        PLAIN[:12] + b"\xc0\x0c\x00\x01\x00\x01",
        PLAIN[:12] + b"\x40" + PLAIN[13:],
        PLAIN[:12] + b"\x01a" * 200 + b"\x00\x00\x01\x00\x01",
    ],
    ids=[
        "nothing", "half a header", "question cut", "name cut", "an answer", "two questions", "no question",
        "with an answer", "a pointer to itself", "an unknown label type", "name too long",
    ],
)  # fmt: skip
def test_what_is_no_query_is_not_answered(message: bytes) -> None:
    assert read_query(message) is None


def test_a_dot_inside_a_label_is_no_separator() -> None:
    message = PLAIN[:12] + b"\x0ba.b.example\x00\x00\x01\x00\x01"
    query = read_query(message)
    assert query is not None
    assert query.name == r"a\.b\.example"


def test_another_operation_is_told_from_a_query() -> None:
    query = read_query(PLAIN[:2] + struct.pack("!H", 5 << 11) + PLAIN[4:])
    assert query is not None
    assert not query.is_standard


@given(st.binary(max_size=600), st.booleans())
def test_no_bytes_do_harm_and_an_answer_is_never_longer_than_a_datagram(tail: bytes, whole: bool) -> None:
    query = read_query(tail if whole else PLAIN[:12] + tail)
    if query is not None:
        answer = reply(query, Code.NO_ERROR, address="127.64.0.1")
        assert len(answer) <= 512
        assert read_query(answer) is None, "answers must never be answered"
