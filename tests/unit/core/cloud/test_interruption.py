"""What AWS's documents say, and what merely looks like them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.cloud.interruption import DOCUMENTS, LIFECYCLE, MAINTENANCE, NOTHING, REBALANCE, SPOT, read
from agent.core.events import NoticeKind

NOW_S = 1_795_478_400.0  # 2026-11-24T00:00:00Z


def spot(action: object = "terminate", time: object = "2026-11-24T00:02:00Z") -> str:
    return json.dumps({"action": action, "time": time})


def maintenance(code: str, before: str, state: str = "active") -> str:
    # As in the EC2 user guide, "Scheduled events for your instances".
    event = {
        "NotBefore": before,
        "Code": code,
        "Description": "The instance is scheduled for maintenance",
        "EventId": "instance-event-0d59937288b749b32",
        "NotAfter": "24 Nov 2026 09:17:23 GMT",
        "State": state,
    }
    return json.dumps([event])


def test_nothing_anywhere_is_nothing() -> None:
    assert read(dict.fromkeys(DOCUMENTS), NOW_S) is NOTHING
    assert read({}, NOW_S) is NOTHING


@pytest.mark.parametrize(
    ("action", "comes_back"), [("terminate", False), ("stop", True), ("hibernate", True)]
)
def test_a_spot_notice_names_its_moment(action: str, comes_back: bool) -> None:
    notice = read({SPOT: spot(action)}, NOW_S)
    assert notice.kind is NoticeKind.TERMINATE
    assert notice.in_s == 120
    assert notice.comes_back is comes_back
    assert action in notice.reason


@pytest.mark.parametrize("time", ["2026-11-23T23:59:00Z", "2026-11-24T03:00:00Z"])
def test_a_clock_that_is_wrong_hides_no_notice_but_names_no_moment(time: str) -> None:
    notice = read({SPOT: spot(time=time)}, NOW_S)
    assert notice.kind is NoticeKind.TERMINATE
    assert notice.in_s is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        "<html>502</html>",
        "terminate",
        "[" * 10_000,
        spot("explode"),
        spot(["terminate"]),
        spot(time="soon"),
        spot(time=120),
        spot(time="2020-01-01T00:00:00Z"),
        spot(time="2036-01-01T00:00:00Z"),
        spot(time="2026-11-24 00:02:00"),
        spot() + " " * 20_000,
    ],
)
def test_what_looks_wrong_is_no_notice(text: str) -> None:
    assert all(read({name: text}, NOW_S) is NOTHING for name in DOCUMENTS)


@pytest.mark.parametrize(
    ("time", "stands"),
    [
        ("2026-11-23T23:59:00Z", True),
        ("2026-11-23T23:00:01Z", True),
        ("2026-11-23T23:00:00Z", False),
        ("2026-11-21T00:00:00Z", False),
        ("2026-10-24T00:00:00Z", False),
        # A clock that is a little behind
        ("2026-11-24T00:05:00Z", True),
        ("2036-01-01T00:00:00Z", False),
    ],
)
def test_a_recommendation_that_nothing_follows_ends_after_an_hour(time: str, stands: bool) -> None:
    """Field case 13.1: EC2 never withdraws one, and the machine would cost and do nothing."""
    notice = read({REBALANCE: json.dumps({"noticeTime": time})}, NOW_S)
    assert notice.kind is (NoticeKind.REBALANCE if stands else NoticeKind.LIFTED)


def test_a_recommendation_says_until_when_it_stands() -> None:
    notice = read({REBALANCE: json.dumps({"noticeTime": "2026-11-23T23:59:00Z"})}, NOW_S)
    assert "this ends at 2026-11-24T00:59:00Z" in notice.reason


@pytest.mark.parametrize(
    ("state", "is_notice"),
    [("Terminated", True), ("InService", False), ("Standby", False), ("Warmed:Stopped", False)],
)
def test_the_target_lifecycle_state(state: str, is_notice: bool) -> None:
    assert (read({LIFECYCLE: state}, NOW_S).kind is NoticeKind.TERMINATE) is is_notice


@pytest.mark.parametrize(
    ("code", "before", "kind"),
    [
        ("instance-stop", "24 Nov 2026 00:01:30 GMT", NoticeKind.TERMINATE),
        ("instance-stop", "24 Nov 2026 00:30:00 GMT", NoticeKind.REBALANCE),
        ("instance-stop", "28 Nov 2026 00:30:00 GMT", NoticeKind.LIFTED),
        # A machine that only reboots is not told to stay away; its shutdown is a signal.
        ("system-reboot", "24 Nov 2026 00:01:30 GMT", NoticeKind.REBALANCE),
        # The kind of field case 13.1: still announced long after its time, and nothing has happened.
        ("system-reboot", "23 Nov 2026 23:30:00 GMT", NoticeKind.REBALANCE),
        ("system-reboot", "23 Nov 2026 22:30:00 GMT", NoticeKind.LIFTED),
        ("instance-stop", "23 Nov 2026 22:30:00 GMT", NoticeKind.LIFTED),
        ("instance-dance", "24 Nov 2026 00:01:30 GMT", NoticeKind.LIFTED),
        ("instance-stop", "24 Nov 2026", NoticeKind.LIFTED),
    ],
)
def test_scheduled_maintenance(code: str, before: str, kind: NoticeKind) -> None:
    assert read({MAINTENANCE: maintenance(code, before)}, NOW_S).kind is kind


def test_maintenance_that_is_over_is_nothing() -> None:
    for state in ("completed", "canceled"):
        assert (
            read({MAINTENANCE: maintenance("instance-stop", "24 Nov 2026 00:01:30 GMT", state)}, NOW_S)
            is NOTHING
        )


def test_the_end_of_the_machine_comes_before_a_recommendation() -> None:
    documents: dict[str, str | None] = {
        REBALANCE: json.dumps({"noticeTime": "2026-11-23T23:59:00Z"}),
        SPOT: spot(),
    }
    assert read(documents, NOW_S).kind is NoticeKind.TERMINATE


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda v: st.lists(v) | st.dictionaries(st.text(), v),
)


@given(
    st.dictionaries(st.sampled_from(DOCUMENTS), st.none() | st.text() | values.map(json.dumps)),
    st.floats(0, 4e9),
)
def test_no_answer_is_too_strange_to_be_read(documents: dict[str, str | None], wall_s: float) -> None:
    assert read(documents, wall_s).kind in set(NoticeKind)
