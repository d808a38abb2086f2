"""The life cycle as one table. The first row of the present state whose condition holds is taken.

The table is the documentation: ARCHITECTURE.md's diagram is generated from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.core.config import K3sMode
from agent.core.context import Context
from agent.core.lifecycle.model import FINAL, DisplayedState
from agent.core.state import AgentState
from agent.core.tunnel.model import LinkPhase
from agent.errors import ExitCode

Condition = Callable[[AgentState], bool]


@dataclass(frozen=True)
class Row:
    """One transition: from where, when (in words and as a condition), to where."""

    source: DisplayedState
    when: str
    target: DisplayedState


def _leased(state: AgentState) -> bool:
    return state.registration.known and state.lease.ready


def _prepared(state: AgentState) -> bool:
    mode, kube = state.config.k3s, state.kube
    return mode is K3sMode.NONE or kube.answering or (mode is K3sMode.AUTO and kube.looked)


CONDITIONS: dict[str, Condition] = {
    "the machine is known": lambda state: state.host is not None,
    "k3s answers, or is not needed": _prepared,
    "the gateway answers": lambda state: state.api.phase is LinkPhase.UP,
    "the attempt failed": lambda state: state.api.phase is LinkPhase.DOWN,
    "the next attempt starts": lambda state: state.api.phase is not LinkPhase.DOWN,
    "the way to the gateway is lost": lambda state: state.api.phase is not LinkPhase.UP,
    "a keepalive is accepted": _leased,
    "the gateway does not know us": lambda state: not _leased(state),
    "asked to go": lambda state: state.shutdown is not None,
    "it cannot work": lambda state: (
        state.exit_decision is not None and state.exit_decision.exit_code is not ExitCode.OK
    ),
    "gone": lambda state: state.exit_decision is not None and state.exit_decision.exit_code is ExitCode.OK,
}

_SERVICE = (
    DisplayedState.STARTING,
    DisplayedState.PREPARING,
    DisplayedState.CONNECTING,
    DisplayedState.REGISTERING,
    DisplayedState.READY,
    DisplayedState.BACKOFF,
)

TABLE: tuple[Row, ...] = (
    # Whatever the state: an end that was decided, and leaving, come first.
    *(Row(state, "it cannot work", DisplayedState.FAILED) for state in _SERVICE),
    # --once ends by itself, without being asked to go.
    *(Row(state, "gone", DisplayedState.STOPPED) for state in _SERVICE),
    *(Row(state, "asked to go", DisplayedState.DRAINING) for state in _SERVICE),
    Row(DisplayedState.DRAINING, "gone", DisplayedState.STOPPED),
    Row(DisplayedState.STARTING, "the machine is known", DisplayedState.PREPARING),
    Row(DisplayedState.PREPARING, "k3s answers, or is not needed", DisplayedState.CONNECTING),
    Row(DisplayedState.CONNECTING, "the gateway answers", DisplayedState.REGISTERING),
    Row(DisplayedState.CONNECTING, "the attempt failed", DisplayedState.BACKOFF),
    Row(DisplayedState.BACKOFF, "the next attempt starts", DisplayedState.CONNECTING),
    Row(DisplayedState.REGISTERING, "the way to the gateway is lost", DisplayedState.CONNECTING),
    Row(DisplayedState.REGISTERING, "a keepalive is accepted", DisplayedState.READY),
    Row(DisplayedState.READY, "the way to the gateway is lost", DisplayedState.CONNECTING),
    Row(DisplayedState.READY, "the gateway does not know us", DisplayedState.REGISTERING),
)


def follow(state: AgentState, ctx: Context) -> AgentState:
    """Take rows until none applies. No state is entered twice, so this ends."""
    seen = {state.displayed}
    while state.displayed not in FINAL:
        target = _next(state)
        if target is None or target in seen:
            return state
        seen.add(target)
        state = replace(state, displayed=target, since_s=ctx.now_s)
    return state


def _next(state: AgentState) -> DisplayedState | None:
    for row in TABLE:
        if row.source is state.displayed and CONDITIONS[row.when](state):
            return row.target
    return None


def diagram() -> str:
    """The table as a Mermaid state diagram, for ARCHITECTURE.md."""
    lines = ["stateDiagram-v2", f"    [*] --> {DisplayedState.STARTING.value}"]
    anywhere = {row.target: row.when for row in TABLE if all(_has(state, row) for state in _SERVICE)}
    lines += [f"    Service --> {target.value}: {when}" for target, when in anywhere.items()]
    lines += ["    state Service {"]
    inside = [row for row in TABLE if row.source in _SERVICE and row.target not in anywhere]
    within = [row for row in inside if row.target in _SERVICE]
    lines += [f"        {row.source.value} --> {row.target.value}: {row.when}" for row in within]
    lines += ["    }"]
    lines += [
        f"    {row.source.value} --> {row.target.value}: {row.when}" for row in inside if row not in within
    ]
    lines += [
        f"    {row.source.value} --> {row.target.value}: {row.when}"
        for row in TABLE
        if row.source is DisplayedState.DRAINING
    ]
    lines += [f"    {state.value} --> [*]" for state in (DisplayedState.STOPPED, DisplayedState.FAILED)]
    return "\n".join(lines)


def _has(state: DisplayedState, row: Row) -> bool:
    return Row(state, row.when, row.target) in TABLE
