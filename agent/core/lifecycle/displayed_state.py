"""The state that people see, STARTING to FAILED: derived from what the machines of the core know, by one table.

The first row of the present state whose condition holds is taken. It decides little else: that a final state is final,
and when a launch hook is completed (see the theory of operation in agent/core/__init__.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agent.core.config import K3sMode
from agent.core.context import Context
from agent.core.lifecycle.model import FINAL, DisplayedState
from agent.core.state import AgentState
from agent.core.transition_table import Row, arrow, next_state
from agent.core.tunnel.model import LinkPhase
from agent.errors import ExitCode

Condition = Callable[[AgentState], bool]


def _is_leased(state: AgentState) -> bool:
    return state.registration.known and state.lease.ready


def _is_prepared(state: AgentState) -> bool:
    mode, kube = state.config.k3s, state.kube
    return mode is K3sMode.NONE or kube.answering or (mode is K3sMode.AUTO and kube.looked)


def _has_failed(state: AgentState) -> bool:
    return state.exit_decision is not None and state.exit_decision.exit_code is not ExitCode.OK


def _is_done(state: AgentState) -> bool:
    return state.exit_decision is not None and state.exit_decision.exit_code is ExitCode.OK


CONDITIONS: dict[str, Condition] = {
    "the machine is known": lambda state: state.host is not None,
    "k3s answers, or is not needed": _is_prepared,
    "the gateway answers": lambda state: state.api.phase is LinkPhase.UP,
    "the attempt failed": lambda state: state.api.phase is LinkPhase.DOWN,
    "the next attempt starts": lambda state: state.api.phase is not LinkPhase.DOWN,
    "the gateway is out of reach": lambda state: state.api.phase is not LinkPhase.UP,
    "a keepalive is accepted": _is_leased,
    "the gateway does not know the machine": lambda state: not _is_leased(state),
    "a shutdown is requested": lambda state: state.shutdown is not None,
    "it cannot work": _has_failed,
    "shutdown is complete": _is_done,
}

_SERVICE = (
    DisplayedState.STARTING,
    DisplayedState.PREPARING,
    DisplayedState.CONNECTING,
    DisplayedState.REGISTERING,
    DisplayedState.READY,
    DisplayedState.BACKOFF,
)

TABLE: tuple[Row[DisplayedState], ...] = (
    # Whatever the state: an end that was decided, and a shutdown, come first.
    *(Row(state, "it cannot work", DisplayedState.FAILED) for state in _SERVICE),
    # --once ends by itself, without a request.
    *(Row(state, "shutdown is complete", DisplayedState.STOPPED) for state in _SERVICE),
    *(Row(state, "a shutdown is requested", DisplayedState.DRAINING) for state in _SERVICE),
    Row(DisplayedState.DRAINING, "shutdown is complete", DisplayedState.STOPPED),
    Row(DisplayedState.STARTING, "the machine is known", DisplayedState.PREPARING),
    Row(DisplayedState.PREPARING, "k3s answers, or is not needed", DisplayedState.CONNECTING),
    Row(DisplayedState.CONNECTING, "the gateway answers", DisplayedState.REGISTERING),
    Row(DisplayedState.CONNECTING, "the attempt failed", DisplayedState.BACKOFF),
    Row(DisplayedState.BACKOFF, "the next attempt starts", DisplayedState.CONNECTING),
    Row(DisplayedState.REGISTERING, "the gateway is out of reach", DisplayedState.CONNECTING),
    Row(DisplayedState.REGISTERING, "a keepalive is accepted", DisplayedState.READY),
    Row(DisplayedState.READY, "the gateway is out of reach", DisplayedState.CONNECTING),
    Row(DisplayedState.READY, "the gateway does not know the machine", DisplayedState.REGISTERING),
)


def follow(state: AgentState, ctx: Context) -> AgentState:
    """Take rows until none applies. No state is entered twice, so this ends."""
    seen = {state.displayed}
    while state.displayed not in FINAL:
        target = next_state(TABLE, state.displayed, CONDITIONS, state)
        if target is None or target in seen:
            return state
        seen.add(target)
        state = replace(state, displayed=target, since_s=ctx.now_s)
    return state


def diagram() -> str:
    """Return the table as a Mermaid state diagram; what holds for every state of service is drawn once."""
    lines = ["stateDiagram-v2", f"    [*] --> {DisplayedState.STARTING.value}"]
    anywhere = {row.target: row.when for row in TABLE if all(_has(state, row) for state in _SERVICE)}
    lines += [f"    Service --> {target.value}: {when}" for target, when in anywhere.items()]
    lines += ["    state Service {"]
    service = [row for row in TABLE if row.source in _SERVICE and row.target not in anywhere]
    within = [row for row in service if row.target in _SERVICE]
    lines += [f"    {arrow(row)}" for row in within]
    lines += ["    }"]
    lines += [arrow(row) for row in service if row not in within]
    lines += [arrow(row) for row in TABLE if row.source is DisplayedState.DRAINING]
    lines += [f"    {state.value} --> [*]" for state in (DisplayedState.STOPPED, DisplayedState.FAILED)]
    return "\n".join(lines)


def _has(state: DisplayedState, row: Row[DisplayedState]) -> bool:
    return Row(state, row.when, row.target) in TABLE
