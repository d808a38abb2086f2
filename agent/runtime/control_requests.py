"""What people ask of the running agent by its control socket, as events for the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.core.events import Event, NoticeKind, NoticeReceived, ShutdownRequested
from agent.core.lifecycle.model import ShutdownKind

LONGEST_DRILL_S = 86_400.0


def event_for(wish: dict[str, Any], now_s: float) -> tuple[Event, str]:
    """The event, and what to tell whoever asked. Raises: ValueError with the reason where it is refused."""
    command = wish.get("command")
    if command not in _WISHES:
        raise ValueError(f"no such command; there are {', '.join(sorted(_WISHES))}")
    return _WISHES[str(command)](wish, now_s)


def _leave(wish: dict[str, Any], _now_s: float) -> tuple[Event, str]:
    if wish.get("when_idle"):
        text = "takes no new work, and leaves when the last worker has ended by itself"
        return ShutdownRequested(ShutdownKind.LEAVE_IDLE, "told to leave when idle"), text
    text = "leaves; workers that run get until BETA9_DRAIN_TIMEOUT"
    return ShutdownRequested(ShutdownKind.LEAVE, "told to leave"), text


def _simulate(wish: dict[str, Any], now_s: float) -> tuple[Event, str]:
    kind, in_s = wish.get("kind", "terminate"), wish.get("in_s", 120)
    if kind == NoticeKind.REBALANCE.value:
        notice = NoticeReceived(NoticeKind.REBALANCE, "a drill: rebalance recommendation")
        return notice, "offers nothing more, as after a rebalance recommendation; a restart ends the drill"
    is_number = isinstance(in_s, (int, float)) and not isinstance(in_s, bool)
    if kind != NoticeKind.TERMINATE.value or not is_number or not 0 < in_s <= LONGEST_DRILL_S:
        raise ValueError(f"takes kind terminate or rebalance, and in_s up to {LONGEST_DRILL_S:g}")
    notice = NoticeReceived(
        NoticeKind.TERMINATE, f"a drill: terminate notice, {in_s:g} s ahead", now_s + in_s
    )
    return notice, f"drains as if this machine were taken away in {in_s:g} s"


_WISHES: dict[str, Callable[[dict[str, Any], float], tuple[Event, str]]] = {
    "leave": _leave,
    "simulate-interruption": _simulate,
}
