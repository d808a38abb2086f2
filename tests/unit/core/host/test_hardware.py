"""Whether two readings of hardware are certainly of two machines."""

from __future__ import annotations

import pytest

from agent.core.host.hardware import UNKNOWN, Hardware, from_json, usable_uuid

ONE = "4c4c4544-0042-3510-8052-b4c04f5a3733"
TWO = "4c4c4544-0042-3510-8052-b4c04f5a3734"
CARD = "3c:ec:ef:00:00:01"
OTHER_CARD = "3c:ec:ef:00:00:02"


def of(uuid: str, *macs: str) -> Hardware:
    return Hardware(uuid, frozenset(macs))


@pytest.mark.parametrize(
    ("kept", "now", "is_another"),
    [
        (of(ONE, CARD), of(ONE, CARD), False),
        (of(ONE, CARD), of(TWO, OTHER_CARD), True),
        # A clone on another host may have the same address (a hypervisor's default).
        (of(ONE, CARD), of(TWO, CARD), True),
        # A card was exchanged.
        (of(ONE, CARD), of(ONE, OTHER_CARD), False),
        # Firmware without a usable UUID, or an agent that may not read it.
        (of("", CARD), of("", OTHER_CARD), True),
        (of(ONE, CARD), of("", OTHER_CARD), True),
        (of("", CARD, OTHER_CARD), of("", OTHER_CARD), False),
        # A container of its own sees no hardware at all; that says nothing.
        (of(ONE, CARD), UNKNOWN, False),
        (UNKNOWN, of(ONE, CARD), False),
        (of(ONE), of("", CARD), False),
    ],
)
def test_only_what_differs_for_certain_is_another_machine(
    kept: Hardware, now: Hardware, is_another: bool
) -> None:
    assert kept.is_another(now) is is_another
    assert from_json(kept.as_json()) == kept


@pytest.mark.parametrize(
    ("text", "uuid"),
    [
        (f"{ONE.upper()}\n", ONE),
        ("00000000-0000-0000-0000-000000000000", ""),
        ("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", ""),
        ("03000200-0400-0500-0006-000700080009", ""),
        ("", ""),
    ],
)
def test_a_uuid_that_many_machines_have_identifies_none(text: str, uuid: str) -> None:
    assert usable_uuid(text) == uuid


@pytest.mark.parametrize("kept", [None, 7, [], {"uuid": 7, "macs": "x"}, {"macs": [1, None]}])
def test_what_is_not_understood_is_unknown(kept: object) -> None:
    assert from_json(kept) == UNKNOWN
