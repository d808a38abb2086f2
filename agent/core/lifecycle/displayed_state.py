"""The life cycle as one table. The first row of the present state whose condition holds is taken.

The table is the documentation: ARCHITECTURE.md's diagram is generated from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.core.config import K3sMode
from agent.core.context import Moment
from agent.core.lifecycle.model import FINAL, State
from agent.core.state import Worker
from agent.core.tunnel.model import Phase
from agent.errors import Exit

Condition = Callable[[Worker], bool]


@dataclass(frozen=True)
class Row:
    """One transition: from where, when (in words and as a condition), to where."""

    source: State
    when: str
    target: State


def _leased(worker: Worker) -> bool:
    return worker.registration.known and worker.lease.ready


def _prepared(worker: Worker) -> bool:
    mode, kube = worker.setup.k3s, worker.kube
    return mode is K3sMode.NONE or kube.answering or (mode is K3sMode.AUTO and kube.looked)


CONDITIONS: dict[str, Condition] = {
    "the machine is known": lambda worker: worker.host is not None,
    "k3s answers, or is not needed": _prepared,
    "the gateway answers": lambda worker: worker.api.phase is Phase.UP,
    "the attempt failed": lambda worker: worker.api.phase is Phase.DOWN,
    "the next attempt starts": lambda worker: worker.api.phase is not Phase.DOWN,
    "the way to the gateway is lost": lambda worker: worker.api.phase is not Phase.UP,
    "a keepalive is accepted": _leased,
    "the gateway does not know us": lambda worker: not _leased(worker),
    "asked to go": lambda worker: worker.going is not None,
    "it cannot work": lambda worker: worker.ending is not None and worker.ending.exit_code is not Exit.OK,
    "gone": lambda worker: worker.ending is not None and worker.ending.exit_code is Exit.OK,
}

_SERVICE = (State.STARTING, State.PREPARING, State.CONNECTING, State.REGISTERING, State.READY, State.BACKOFF)

TABLE: tuple[Row, ...] = (
    # Whatever the state: an end that was decided, and leaving, come first.
    *(Row(state, "it cannot work", State.FAILED) for state in _SERVICE),
    # --once ends by itself, without being asked to go.
    *(Row(state, "gone", State.STOPPED) for state in _SERVICE),
    *(Row(state, "asked to go", State.DRAINING) for state in _SERVICE),
    Row(State.DRAINING, "gone", State.STOPPED),
    Row(State.STARTING, "the machine is known", State.PREPARING),
    Row(State.PREPARING, "k3s answers, or is not needed", State.CONNECTING),
    Row(State.CONNECTING, "the gateway answers", State.REGISTERING),
    Row(State.CONNECTING, "the attempt failed", State.BACKOFF),
    Row(State.BACKOFF, "the next attempt starts", State.CONNECTING),
    Row(State.REGISTERING, "the way to the gateway is lost", State.CONNECTING),
    Row(State.REGISTERING, "a keepalive is accepted", State.READY),
    Row(State.READY, "the way to the gateway is lost", State.CONNECTING),
    Row(State.READY, "the gateway does not know us", State.REGISTERING),
)


def follow(worker: Worker, at: Moment) -> Worker:
    """Take rows until none applies. No state is entered twice, so this ends."""
    seen = {worker.state}
    while worker.state not in FINAL:
        target = _next(worker)
        if target is None or target in seen:
            return worker
        seen.add(target)
        worker = replace(worker, state=target, since_s=at.now_s)
    return worker


def _next(worker: Worker) -> State | None:
    for row in TABLE:
        if row.source is worker.state and CONDITIONS[row.when](worker):
            return row.target
    return None


def diagram() -> str:
    """The table as a Mermaid state diagram, for ARCHITECTURE.md."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.STARTING.value}"]
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
        if row.source is State.DRAINING
    ]
    lines += [f"    {state.value} --> [*]" for state in (State.STOPPED, State.FAILED)]
    return "\n".join(lines)


def _has(state: State, row: Row) -> bool:
    return Row(state, row.when, row.target) in TABLE
