"""Read AWS's metadata documents: what do they announce about this machine's end?

Contract (EC2 and EC2 Auto Scaling user guides): `spot/instance-action` is `{"action": "terminate"|"stop"|
"hibernate", "time": "…Z"}` from about two minutes before the end; `events/recommendations/rebalance` is
`{"noticeTime": "…Z"}`; `autoscaling/target-lifecycle-state` is one word, `Terminated` once the group takes the
machine out; `events/maintenance/scheduled` is a list of events with `Code`, `State`, `NotBefore`. While nothing
is announced each is absent (404). Anything else is not a notice: a proxy's error page must not end a machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from agent.core.events import NoticeKind

SPOT = "spot/instance-action"
REBALANCE = "events/recommendations/rebalance"
LIFECYCLE = "autoscaling/target-lifecycle-state"
MAINTENANCE = "events/maintenance/scheduled"
DOCUMENTS = (SPOT, REBALANCE, LIFECYCLE, MAINTENANCE)

LONGEST_NOTICE_S = 600.0
"""A spot notice comes two minutes ahead; a time further off than this, or past, means that a clock is wrong."""
ABSURD_S = 86_400.0
"""A time that is off by more than a day is not a notice at all."""
REBALANCE_STANDS_S = 3600.0
"""EC2 never withdraws a recommendation, and many are followed by nothing: without a bound the machine would cost for
days and do nothing. Where its group rebalances capacity, it is replaced within minutes."""
MAINTENANCE_WITHDRAW_S = 3600.0
"""A machine that is stopped or rebooted within the hour takes no new work, nor within the hour after the time that was
named; an event that is still announced then does not keep it idle for ever."""
MAINTENANCE_DRAIN_S = 120.0
LIMIT_CHARS = 16_384

_ACTIONS = {"terminate": False, "stop": True, "hibernate": True}
"""The actions of a spot notice, and whether the same machine is started again afterwards."""
_ENDS = frozenset({"instance-stop", "instance-retirement"})
_PAUSES = frozenset({"instance-reboot", "system-reboot", "system-maintenance"})
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Notice:
    """What is announced. `in_s` is seconds from the moment of reading; None: no credible time is named."""

    kind: NoticeKind
    reason: str
    in_s: float | None = None
    comes_back: bool = False

    def is_same(self, other: Notice) -> bool:
        """Return whether two readings are of the same notice; only the seconds left may differ."""
        return (self.kind, self.reason, self.comes_back) == (other.kind, other.reason, other.comes_back)


NOTHING = Notice(NoticeKind.LIFTED, "nothing announced")


def read(documents: dict[str, str | None], wall_s: float) -> Notice:
    """Return the most urgent notice in the documents (None: absent). `wall_s`: seconds since 1970, UTC."""
    for name, parse in _PARSERS:
        text = documents.get(name)
        if text is None or len(text) > LIMIT_CHARS:
            continue
        notice = parse(text, wall_s)
        if notice is not None:
            return notice
    return NOTHING


def _spot(text: str, wall_s: float) -> Notice | None:
    document = _object(text)
    action, at_s = document.get("action"), _iso_s(document.get("time"))
    if not isinstance(action, str) or action not in _ACTIONS or at_s is None or abs(at_s - wall_s) > ABSURD_S:
        return None
    in_s = at_s - wall_s
    reason = f"spot notice: EC2 will {action} this machine at {document['time']}"
    return Notice(
        NoticeKind.TERMINATE,
        reason,
        in_s if 0 < in_s <= LONGEST_NOTICE_S else None,
        comes_back=_ACTIONS[action],
    )


def _lifecycle(text: str, _wall_s: float) -> Notice | None:
    if text.strip() != "Terminated":
        return None
    return Notice(NoticeKind.TERMINATE, "the Auto Scaling group takes this machine out")


def _maintenance_end(text: str, wall_s: float) -> Notice | None:
    for code, in_s, reason in _maintenance(text, wall_s):
        if code in _ENDS and -MAINTENANCE_WITHDRAW_S <= in_s <= MAINTENANCE_DRAIN_S:
            # Stopped, not terminated: started again, it is to come back.
            return Notice(NoticeKind.TERMINATE, reason, in_s if in_s > 0 else None, comes_back=True)
    return None


def _maintenance_soon(text: str, wall_s: float) -> Notice | None:
    for _, in_s, reason in _maintenance(text, wall_s):
        if abs(in_s) <= MAINTENANCE_WITHDRAW_S:
            return Notice(NoticeKind.REBALANCE, reason)
    return None


def _rebalance(text: str, wall_s: float) -> Notice | None:
    at_s = _iso_s(_object(text).get("noticeTime"))
    if at_s is None or at_s - wall_s > ABSURD_S:
        return None
    until_s = at_s + REBALANCE_STANDS_S
    if wall_s >= until_s:
        return None
    return Notice(
        NoticeKind.REBALANCE,
        "EC2 recommends to rebalance: the risk of an interruption is elevated; if none comes, this ends at "
        f"{_iso(until_s)}",
    )


_PARSERS = (
    (SPOT, _spot),
    (LIFECYCLE, _lifecycle),
    (MAINTENANCE, _maintenance_end),
    (REBALANCE, _rebalance),
    (MAINTENANCE, _maintenance_soon),
)


def _maintenance(text: str, wall_s: float) -> list[tuple[str, float, str]]:
    """Return (code, seconds until then, text for a person) of each active event that affects this machine."""
    listed = _json(text)
    found = []
    for event in listed if isinstance(listed, list) else []:
        fields = event if isinstance(event, dict) else {}
        code, at_s = fields.get("Code"), _english_s(fields.get("NotBefore"))
        is_known = isinstance(code, str) and code in _ENDS | _PAUSES
        if is_known and at_s is not None and fields.get("State") == "active" and at_s - wall_s > -ABSURD_S:
            found.append(
                (str(code), at_s - wall_s, f"scheduled maintenance: {code} at {fields['NotBefore']}")
            )
    return sorted(found, key=lambda each: each[1])


def _object(text: str) -> dict[str, Any]:
    value = _json(text)
    return value if isinstance(value, dict) else {}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _iso_s(text: object) -> float | None:
    """`2026-11-23T23:59:00Z` as seconds since 1970."""
    try:
        return (
            datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()
            if isinstance(text, str) and len(text) <= 32
            else None
        )
    except (ValueError, OverflowError):
        return None


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _english_s(text: object) -> float | None:
    """`21 Jan 2019 09:00:43 GMT` as seconds since 1970, whatever this machine's locale."""
    words = text.split() if isinstance(text, str) and len(text) <= 40 else []
    if len(words) != 5 or words[1] not in _MONTHS or words[4] != "GMT":
        return None
    day, month, year, clock, _ = words
    return _iso_s(f"{year}-{_MONTHS.index(month) + 1:02}-{day:0>2}T{clock}Z")
