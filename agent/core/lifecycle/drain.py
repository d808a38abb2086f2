"""How the machine is emptied: cordon, tell the workers to end, wait, force; and the marker that it was told to go.

    LOOKING ─► FAREWELL                              no workers, or no way to see to them: seconds
    LOOKING ─► ENDING ─► FORCING ─► FAREWELL         workers get until shortly before the deadline
    LOOKING ─► WAITING ─► FAREWELL                   `leave --when-idle`: as long as they take

Until FAREWELL the lease is kept; nothing is offered from the first moment on (see offer).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agent.core.context import Context
from agent.core.effects import CordonNode, Effect, EndWorkers, ListWorkers, WriteStop
from agent.core.events import NodeCordoned, StopWritten, WorkersListed
from agent.core.lifecycle.model import DrainPhase, Shutdown, ShutdownKind
from agent.core.machine_api import offer
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.tunnel.model import LinkPhase

_PATIENCE = 5
"""Waiting for hours, the workers are counted this many times less often."""


def manage(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    """Go on with whatever is next; with nobody leaving, that is at most the cordon."""
    state, effects = _cordon(state, ctx)
    shutdown = state.shutdown
    if shutdown is None or shutdown.kind is ShutdownKind.HAND_OVER or state.exit_decision is not None:
        return state, effects
    if shutdown.mark and not shutdown.marking:
        effects.append(WriteStop(shutdown.reason))
        state = replace(state, shutdown=replace(shutdown, marking=True))
    for _ in DrainPhase:  # no step leads back, so this many changes at most
        state = _follow(state, ctx)
    return _ask(state, ctx, effects)


def force_at_s(shutdown: Shutdown, policy: Policy) -> float:
    """When workers that still run are ended by force: well before the end, but not before half the time is over."""
    is_taken = shutdown.kind is ShutdownKind.TERMINATE
    before_s = policy.force_before_s if is_taken else policy.stop_force_before_s
    return shutdown.deadline_at_s - min(before_s, (shutdown.deadline_at_s - shutdown.since_s) / 2)


# --- The node --------------------------------------------------------------------------------------------


def _cordon(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    node_drain = state.node_drain
    can = state.kube.logins.administers and state.kube.answering and not state.config.once
    if (
        not can
        or state.exit_decision is not None
        or node_drain.cordoning
        or ctx.now_s < node_drain.cordon_at_s
    ):
        return state, []
    wanted = _wants_cordon(state)
    if wanted is None or node_drain.cordoned is wanted:
        return state, []
    # With nothing known, "let pods come again" also takes back what an agent before this one did.
    return replace(state, node_drain=replace(node_drain, cordoning=True)), [
        CordonNode(wanted, ctx.policy.workers_timeout_s)
    ]


def _wants_cordon(state: AgentState) -> bool | None:
    """Whether the node is to be cordoned; None: leave it as it is."""
    shutdown = state.shutdown
    if shutdown is None:
        return offer.is_withdrawn(state)
    if shutdown.kind is ShutdownKind.HAND_OVER:
        return None
    if shutdown.kind is ShutdownKind.STOP and shutdown.phase in {DrainPhase.LOOKING, DrainPhase.FAREWELL}:
        # A restart of an idle machine need not touch the node: without the tunnel nothing new comes.
        return None
    return True


def on_cordoned(state: AgentState, event: NodeCordoned, ctx: Context) -> AgentState:
    """The node took it, or did not and is asked again."""
    node_drain = replace(state.node_drain, cordoning=False, cordon_error=event.error)
    if event.error is None:
        return replace(state, node_drain=replace(node_drain, cordoned=event.is_cordoned))
    return replace(
        state, node_drain=replace(node_drain, cordon_at_s=ctx.now_s + ctx.policy.workers_interval_s)
    )


# --- The workers -----------------------------------------------------------------------------------------


def _ask(state: AgentState, ctx: Context, effects: list[Effect]) -> tuple[AgentState, list[Effect]]:
    shutdown, node_drain, timeout_s = state.shutdown, state.node_drain, ctx.policy.workers_timeout_s
    if shutdown is None or shutdown.phase is DrainPhase.FAREWELL:
        return state, effects
    if node_drain.asking and ctx.now_s < node_drain.asked_at_s + 2 * timeout_s:
        return state, effects
    if not node_drain.asking and ctx.now_s < node_drain.ask_at_s:
        return state, effects
    if (
        shutdown.phase is DrainPhase.ENDING
        and not node_drain.told
        and _cordon_is_awaited(state, shutdown, ctx)
    ):
        return state, effects
    number = node_drain.number + 1
    if shutdown.phase is DrainPhase.FORCING:
        effects.append(EndWorkers(number, 0.0, timeout_s))
    elif shutdown.phase is DrainPhase.ENDING and not node_drain.told:
        grace_s = max(0.0, force_at_s(shutdown, ctx.policy) - ctx.now_s)
        effects.append(EndWorkers(number, grace_s, timeout_s))
    else:
        effects.append(ListWorkers(number, timeout_s))
    return replace(
        state, node_drain=replace(node_drain, number=number, asking=True, asked_at_s=ctx.now_s)
    ), effects


def _cordon_is_awaited(state: AgentState, shutdown: Shutdown, ctx: Context) -> bool:
    """Told before the node is cordoned, a worker's Job would start another one here."""
    node_drain = state.node_drain
    is_open = node_drain.cordoned is not True and node_drain.cordon_error is None
    return (
        is_open and state.kube.answering and ctx.now_s < shutdown.phase_since_s + ctx.policy.workers_timeout_s
    )


def on_workers(state: AgentState, event: WorkersListed, ctx: Context) -> AgentState:
    """They were counted, or told to end and counted."""
    node_drain, shutdown = state.node_drain, state.shutdown
    if shutdown is None or not node_drain.asking or event.number != node_drain.number:
        return state
    pause_s = ctx.policy.workers_interval_s * (_PATIENCE if shutdown.phase is DrainPhase.WAITING else 1)
    node_drain = replace(node_drain, asking=False, ask_at_s=ctx.now_s + pause_s, list_error=event.error)
    if event.count is not None:
        told = node_drain.told or shutdown.phase in {DrainPhase.ENDING, DrainPhase.FORCING}
        node_drain = replace(node_drain, workers=event.count, told=told)
    return replace(state, node_drain=node_drain)


def _follow(state: AgentState, ctx: Context) -> AgentState:
    shutdown = state.shutdown
    assert shutdown is not None  # noqa: S101 - `manage` looked
    step = _next(state, shutdown, ctx)
    if step is None:
        return state
    shutdown = replace(shutdown, phase=step, phase_since_s=ctx.now_s)
    if step is DrainPhase.FAREWELL:
        is_taken = shutdown.kind is ShutdownKind.TERMINATE
        bound_s = ctx.policy.notice_farewell_s if is_taken else ctx.policy.farewell_s
        shutdown = replace(shutdown, deadline_at_s=min(shutdown.deadline_at_s, ctx.now_s + bound_s))
        return replace(state, shutdown=shutdown, call_retry_at_s=ctx.now_s)
    # What was counted for the step before does not decide this one.
    node_drain = replace(state.node_drain, workers=None, asking=False, ask_at_s=ctx.now_s, list_error=None)
    return replace(state, shutdown=shutdown, node_drain=node_drain)


def _next(state: AgentState, shutdown: Shutdown, ctx: Context) -> DrainPhase | None:
    """The step after the present one, None while that goes on."""
    if shutdown.phase is DrainPhase.FAREWELL:
        return None
    if ctx.now_s >= shutdown.deadline_at_s - ctx.policy.farewell_s:
        return DrainPhase.FAREWELL
    return _AFTER[shutdown.phase](state, shutdown, ctx)


def _after_looking(state: AgentState, shutdown: Shutdown, ctx: Context) -> DrainPhase | None:
    count, node_drain = state.node_drain.workers, state.node_drain
    can_see = state.kube.logins.administers
    can_ask = can_see and state.kube.answering
    if (
        count is None
        and can_ask
        and node_drain.list_error is None
        and ctx.now_s < shutdown.phase_since_s + _longest_s(ctx)
    ):
        return None
    if count is None:
        count = state.kube.node.worker_count if can_see and state.kube.node else 0
        # Nothing answers that could end them, or count them: what was seen last is what there is.
    if shutdown.kind is ShutdownKind.LEAVE_IDLE and can_see:
        return DrainPhase.WAITING
    return DrainPhase.ENDING if count else DrainPhase.FAREWELL


def _after_waiting(state: AgentState, shutdown: Shutdown, _at: Context) -> DrainPhase | None:
    if shutdown.kind is not ShutdownKind.LEAVE_IDLE:
        return DrainPhase.ENDING
    return DrainPhase.FAREWELL if state.node_drain.workers == 0 and _asked_after_withdrawing(state) else None


def _after_ending(state: AgentState, shutdown: Shutdown, ctx: Context) -> DrainPhase | None:
    # Also when all are gone: their Jobs must not bring them back.
    over = state.node_drain.told and state.node_drain.workers == 0
    return DrainPhase.FORCING if over or ctx.now_s >= force_at_s(shutdown, ctx.policy) else None


def _after_forcing(state: AgentState, _going: Shutdown, _at: Context) -> DrainPhase | None:
    return DrainPhase.FAREWELL if state.node_drain.workers == 0 else None


def _longest_s(ctx: Context) -> float:
    """How long the first look may take."""
    return ctx.policy.workers_timeout_s * 1.25


def _asked_after_withdrawing(state: AgentState) -> bool:
    """Whether the workers were counted at a time when no new one could be on its way."""
    registration, node_drain = state.registration, state.node_drain
    advertisement = registration.advertisement
    if not registration.known or advertisement is None or state.api.phase is not LinkPhase.UP:
        return True
    return not advertisement.offered and node_drain.asked_at_s > registration.at_s


_AFTER: dict[DrainPhase, Callable[[AgentState, Shutdown, Context], DrainPhase | None]] = {
    DrainPhase.LOOKING: _after_looking,
    DrainPhase.WAITING: _after_waiting,
    DrainPhase.ENDING: _after_ending,
    DrainPhase.FORCING: _after_forcing,
}


# --- The marker ------------------------------------------------------------------------------------------


def on_written(state: AgentState, _event: StopWritten, _at: Context) -> AgentState:
    """On disk; or it cannot be, which keeps nobody here."""
    return state if state.shutdown is None else replace(state, shutdown=replace(state.shutdown, marked=True))
