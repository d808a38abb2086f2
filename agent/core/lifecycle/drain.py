"""How the machine is emptied: tell its workers to end, wait, remove what is left; and the stop marker.

The phases are TABLE, below; the node is cordoned first (cordon.py). When workers are told to end, their Jobs are
deleted, since a Job makes another pod for one that was deleted. Until FAREWELL the lease is kept; nothing is offered
from the first moment on (offer.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agent.core.context import Context
from agent.core.effects import Effect, EndWorkers, ListWorkers, WriteStop
from agent.core.events import StopWritten, WorkersListed
from agent.core.lifecycle import cordon
from agent.core.lifecycle.model import DrainPhase, Shutdown, ShutdownKind
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.transition_table import Row, next_state
from agent.core.tunnel.model import LinkPhase

_IDLE_FACTOR = 5
"""While waiting for hours, the workers are counted this many times less often."""

Condition = Callable[[AgentState, Shutdown, Context], bool]


def manage(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    """Do what is next; while no shutdown is under way, that is at most the cordon."""
    state, effects = cordon.manage(state, ctx)
    shutdown = state.shutdown
    if shutdown is None or shutdown.kind is ShutdownKind.HAND_OVER or state.exit_decision is not None:
        return state, effects
    if shutdown.mark and not shutdown.marking:
        effects.append(WriteStop(shutdown.reason))
        state = replace(state, shutdown=replace(shutdown, marking=True))
    for _ in DrainPhase:  # no row leads back, so there are at most this many changes
        state = _follow(state, ctx)
    return _ask(state, ctx, effects)


# --- The phases ------------------------------------------------------------------------------------------


def _deadline_is_near(_state: AgentState, shutdown: Shutdown, ctx: Context) -> bool:
    return ctx.now_s >= shutdown.deadline_at_s - ctx.policy.farewell_s


def _left(state: AgentState, shutdown: Shutdown, ctx: Context) -> int | None:
    """How many workers, and Jobs that would bring one, are here; None while they are still being counted."""
    node_drain, kube = state.node_drain, state.kube
    if node_drain.workers is not None:
        return node_drain.workers + node_drain.to_come
    can_ask = kube.logins.administers and kube.answering
    is_in_time = ctx.now_s < shutdown.phase_since_s + ctx.policy.workers_timeout_s * 1.25
    if can_ask and node_drain.list_error is None and is_in_time:
        return None
    # Nothing answers that could end or count them: what was seen last is what there is.
    return kube.node.worker_count if kube.logins.administers and kube.node else 0


def _waits_for_idle(state: AgentState, shutdown: Shutdown, ctx: Context) -> bool:
    is_asked = shutdown.kind is ShutdownKind.LEAVE_IDLE and state.kube.logins.administers
    return is_asked and _left(state, shutdown, ctx) is not None


def _has_workers(state: AgentState, shutdown: Shutdown, ctx: Context) -> bool:
    return bool(_left(state, shutdown, ctx))


def _has_no_workers(state: AgentState, shutdown: Shutdown, ctx: Context) -> bool:
    return _left(state, shutdown, ctx) == 0


def _is_asked_sooner(_state: AgentState, shutdown: Shutdown, _ctx: Context) -> bool:
    return shutdown.kind is not ShutdownKind.LEAVE_IDLE


def _last_has_ended(state: AgentState, _shutdown: Shutdown, _ctx: Context) -> bool:
    """No worker runs, counted at a time when no new one could be on its way."""
    registration, node_drain = state.registration, state.node_drain
    advertisement = registration.advertisement
    if node_drain.workers != 0:
        return False
    if not registration.known or advertisement is None or state.api.phase is not LinkPhase.UP:
        return True
    return not advertisement.offered and node_drain.asked_at_s > registration.at_s


def _force_is_due(state: AgentState, shutdown: Shutdown, ctx: Context) -> bool:
    # Also when all have ended: none of their Jobs may be left.
    have_ended = state.node_drain.workers_told and state.node_drain.workers == 0
    return have_ended or ctx.now_s >= force_at_s(shutdown, ctx.policy)


def _none_is_left(state: AgentState, _shutdown: Shutdown, _ctx: Context) -> bool:
    return state.node_drain.workers == 0 and state.node_drain.to_come == 0


CONDITIONS: dict[str, Condition] = {
    "the deadline is near": _deadline_is_near,
    "asked to wait until idle": _waits_for_idle,
    "workers run": _has_workers,
    "no worker runs": _has_no_workers,
    "asked to leave sooner": _is_asked_sooner,
    "the last one has ended": _last_has_ended,
    "all have ended, or their time is up": _force_is_due,
    "none is left": _none_is_left,
}

_BEFORE_FAREWELL = tuple(phase for phase in DrainPhase if phase is not DrainPhase.FAREWELL)

TABLE: tuple[Row[DrainPhase], ...] = (
    *(Row(phase, "the deadline is near", DrainPhase.FAREWELL) for phase in _BEFORE_FAREWELL),
    Row(DrainPhase.LOOKING, "asked to wait until idle", DrainPhase.WAITING),
    Row(DrainPhase.LOOKING, "workers run", DrainPhase.ENDING),
    Row(DrainPhase.LOOKING, "no worker runs", DrainPhase.FAREWELL),
    Row(DrainPhase.WAITING, "asked to leave sooner", DrainPhase.ENDING),
    # Then no worker runs any more, but a Job may be left: one that waits for the end of the cordon.
    Row(DrainPhase.WAITING, "the last one has ended", DrainPhase.FORCING),
    Row(DrainPhase.ENDING, "all have ended, or their time is up", DrainPhase.FORCING),
    Row(DrainPhase.FORCING, "none is left", DrainPhase.FAREWELL),
)
"""The first row of the present phase whose condition holds is taken. No row leads back."""


def _follow(state: AgentState, ctx: Context) -> AgentState:
    shutdown = state.shutdown
    assert shutdown is not None  # noqa: S101 - `manage` looked
    phase = next_state(TABLE, shutdown.phase, CONDITIONS, state, shutdown, ctx)
    if phase is None:
        return state
    shutdown = replace(shutdown, phase=phase, phase_since_s=ctx.now_s)
    if phase is DrainPhase.FAREWELL:
        is_taken = shutdown.kind is ShutdownKind.TERMINATE
        bound_s = ctx.policy.notice_farewell_s if is_taken else ctx.policy.farewell_s
        shutdown = replace(shutdown, deadline_at_s=min(shutdown.deadline_at_s, ctx.now_s + bound_s))
        return replace(state, shutdown=shutdown, call_retry_at_s=ctx.now_s)
    if phase is DrainPhase.FORCING:
        # Whoever waited for hours does not stay for a Job that cannot be removed: the next start tries again.
        bound_s = max(ctx.policy.drain_timeout_s, ctx.policy.farewell_s)
        shutdown = replace(shutdown, deadline_at_s=min(shutdown.deadline_at_s, ctx.now_s + bound_s))
    return replace(state, shutdown=shutdown, node_drain=state.node_drain.recounted(ctx.now_s))


def force_at_s(shutdown: Shutdown, policy: Policy) -> float:
    """Return when workers that still run are removed: well before the end, but not before half the time is over."""
    is_taken = shutdown.kind is ShutdownKind.TERMINATE
    before_s = policy.force_before_s if is_taken else policy.stop_force_before_s
    return shutdown.deadline_at_s - min(before_s, (shutdown.deadline_at_s - shutdown.since_s) / 2)


# --- The workers -----------------------------------------------------------------------------------------


def _ask(state: AgentState, ctx: Context, effects: list[Effect]) -> tuple[AgentState, list[Effect]]:
    shutdown, node_drain, timeout_s = state.shutdown, state.node_drain, ctx.policy.workers_timeout_s
    if shutdown is None or shutdown.phase is DrainPhase.FAREWELL:
        return state, effects
    if node_drain.asking and ctx.now_s < node_drain.asked_at_s + 2 * timeout_s:
        return state, effects
    if not node_drain.asking and ctx.now_s < node_drain.ask_at_s:
        return state, effects
    tells = shutdown.phase is DrainPhase.ENDING and not node_drain.workers_told
    if tells and _awaits_cordon(state, shutdown, ctx):
        return state, effects
    number = node_drain.number + 1
    if shutdown.phase is DrainPhase.FORCING:
        effects.append(EndWorkers(number, 0.0, timeout_s))
    elif tells:
        grace_s = max(0.0, force_at_s(shutdown, ctx.policy) - ctx.now_s)
        effects.append(EndWorkers(number, grace_s, timeout_s))
    else:
        effects.append(ListWorkers(number, timeout_s))
    node_drain = replace(node_drain, number=number, asking=True, asked_at_s=ctx.now_s)
    return replace(state, node_drain=node_drain), effects


def _awaits_cordon(state: AgentState, shutdown: Shutdown, ctx: Context) -> bool:
    """Nothing may be scheduled here between the telling and the end."""
    node_drain = state.node_drain
    is_open = node_drain.cordoned is not True and node_drain.cordon_error is None and cordon.can_ask(state)
    is_in_time = ctx.now_s < shutdown.phase_since_s + ctx.policy.workers_timeout_s
    return is_open and state.kube.answering and is_in_time


def on_workers(state: AgentState, event: WorkersListed, ctx: Context) -> AgentState:
    """The workers were counted, or told to end and counted."""
    node_drain, shutdown = state.node_drain, state.shutdown
    if shutdown is None or not node_drain.asking or event.number != node_drain.number:
        return state
    factor = _IDLE_FACTOR if shutdown.phase is DrainPhase.WAITING else 1
    ask_at_s = ctx.now_s + ctx.policy.workers_interval_s * factor
    node_drain = replace(node_drain, asking=False, ask_at_s=ask_at_s, list_error=event.error)
    if event.count is not None:
        workers_told = node_drain.workers_told or shutdown.phase in {DrainPhase.ENDING, DrainPhase.FORCING}
        node_drain = replace(
            node_drain, workers=event.count, to_come=event.to_come, workers_told=workers_told
        )
    return replace(state, node_drain=node_drain)


# --- The stop marker -------------------------------------------------------------------------------------


def on_written(state: AgentState, _event: StopWritten, _ctx: Context) -> AgentState:
    """The marker is on disk; or it cannot be written, which is no reason to stay."""
    return state if state.shutdown is None else replace(state, shutdown=replace(state.shutdown, marked=True))
