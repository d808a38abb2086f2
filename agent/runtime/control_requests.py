"""Turns requests on the control socket into events for the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.core.events import Event, NoticeKind, NoticeReceived, ShutdownRequested
from agent.core.lifecycle.model import ShutdownKind

LONGEST_DRILL_S = 86_400.0


def event_for(request: dict[str, Any], now_s: float) -> tuple[Event, str]:
    """Return the event and the text for the reply. Raises: ValueError with the reason for a refusal."""
    command = request.get("command")
    if command not in _REQUESTS:
        raise ValueError(f"unknown command; known are {', '.join(sorted(_REQUESTS))}")
    return _REQUESTS[str(command)](request, now_s)


def _leave(request: dict[str, Any], _now_s: float) -> tuple[Event, str]:
    if request.get("when_idle"):
        text = "accepts no new work, and leaves when the last worker has ended by itself"
        return ShutdownRequested(ShutdownKind.LEAVE_IDLE, "told to leave when idle"), text
    text = "leaves; running workers get until BETA9_DRAIN_TIMEOUT"
    return ShutdownRequested(ShutdownKind.LEAVE, "told to leave"), text


def _simulate(request: dict[str, Any], now_s: float) -> tuple[Event, str]:
    kind, in_s = request.get("kind", "terminate"), request.get("in_s", 120)
    if kind == NoticeKind.REBALANCE.value:
        notice = NoticeReceived(NoticeKind.REBALANCE, "a drill: rebalance recommendation")
        return notice, "offers nothing more, as after a rebalance recommendation; a restart ends the drill"
    is_number = isinstance(in_s, (int, float)) and not isinstance(in_s, bool)
    if kind != NoticeKind.TERMINATE.value or not is_number or not 0 < in_s <= LONGEST_DRILL_S:
        raise ValueError(f"kind must be terminate or rebalance, and in_s a number up to {LONGEST_DRILL_S:g}")
    notice = NoticeReceived(
        NoticeKind.TERMINATE, f"a drill: terminate notice, {in_s:g} s ahead", now_s + in_s
    )
    return notice, f"drains as if this machine were to be terminated in {in_s:g} s"


_REQUESTS: dict[str, Callable[[dict[str, Any], float], tuple[Event, str]]] = {
    "leave": _leave,
    "simulate-interruption": _simulate,
}
