"""SOCKS4 requests and answers. OpenSSH's own are those of tests/gateway."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from agent.core.relay.socks import REPLY_BYTES, Answer, connect_request, read_answer

GRANTED = bytes.fromhex("005a000000000000")


def test_a_request_is_version_command_port_address_and_no_user() -> None:
    assert connect_request(IPv4Address("198.18.0.2"), 6443) == bytes.fromhex("0401192bc612000200")


@pytest.mark.parametrize(
    ("received", "ended", "answer"),
    [
        (GRANTED, False, Answer.GRANTED),
        (GRANTED, True, Answer.GRANTED),
        (b"", False, Answer.INCOMPLETE),
        (b"", True, Answer.REFUSED),  # how OpenSSH refuses
        (bytes.fromhex("005b000000000000"), False, Answer.REFUSED),
        (bytes.fromhex("005b"), False, Answer.REFUSED),
        (b"HTTP/1.1", False, Answer.REFUSED),
        (b"\x05\x00", False, Answer.REFUSED),
    ],
)
def test_an_answer_is(received: bytes, ended: bool, answer: Answer) -> None:
    assert read_answer(received, ended=ended) is answer


def test_an_answer_may_come_byte_by_byte() -> None:
    for length in range(REPLY_BYTES):
        assert read_answer(GRANTED[:length]) is Answer.INCOMPLETE
        assert read_answer(GRANTED[:length], ended=True) is Answer.REFUSED
