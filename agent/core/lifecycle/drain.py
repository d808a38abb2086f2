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


def manage(worker: AgentState, at: Context) -> tuple[AgentState, list[Effect]]:
    """Go on with whatever is next; with nobody leaving, that is at most the cordon."""
    worker, commands = _cordon(worker, at)
    going = worker.going
    if going is None or going.kind is ShutdownKind.HAND_OVER or worker.ending is not None:
        return worker, commands
    if going.mark and not going.marking:
        commands.append(WriteStop(going.reason))
        worker = replace(worker, going=replace(going, marking=True))
    for _ in DrainPhase:  # no step leads back, so this many changes at most
        worker = _follow(worker, at)
    return _ask(worker, at, commands)


def force_at_s(going: Shutdown, policy: Policy) -> float:
    """When workers that still run are ended by force: well before the end, but not before half the time is over."""
    is_taken = going.kind is ShutdownKind.TERMINATE
    before_s = policy.force_before_s if is_taken else policy.stop_force_before_s
    return going.deadline_at_s - min(before_s, (going.deadline_at_s - going.since_s) / 2)


# --- The node --------------------------------------------------------------------------------------------


def _cordon(worker: AgentState, at: Context) -> tuple[AgentState, list[Effect]]:
    room = worker.room
    can = worker.kube.logins.administers and worker.kube.answering and not worker.setup.once
    if not can or worker.ending is not None or room.cordoning or at.now_s < room.cordon_at_s:
        return worker, []
    wanted = _wants_cordon(worker)
    if wanted is None or room.cordoned is wanted:
        return worker, []
    # With nothing known, "let pods come again" also takes back what an agent before this one did.
    return replace(worker, room=replace(room, cordoning=True)), [
        CordonNode(wanted, at.policy.workers_timeout_s)
    ]


def _wants_cordon(worker: AgentState) -> bool | None:
    """Whether the node is to be cordoned; None: leave it as it is."""
    going = worker.going
    if going is None:
        return offer.is_withdrawn(worker)
    if going.kind is ShutdownKind.HAND_OVER:
        return None
    if going.kind is ShutdownKind.STOP and going.step in {DrainPhase.LOOKING, DrainPhase.FAREWELL}:
        # A restart of an idle machine need not touch the node: without the tunnel nothing new comes.
        return None
    return True


def on_cordoned(worker: AgentState, event: NodeCordoned, at: Context) -> AgentState:
    """The node took it, or did not and is asked again."""
    room = replace(worker.room, cordoning=False, cordon_trouble=event.problem)
    if event.problem is None:
        return replace(worker, room=replace(room, cordoned=event.is_cordoned))
    return replace(worker, room=replace(room, cordon_at_s=at.now_s + at.policy.workers_interval_s))


# --- The workers -----------------------------------------------------------------------------------------


def _ask(worker: AgentState, at: Context, commands: list[Effect]) -> tuple[AgentState, list[Effect]]:
    going, room, timeout_s = worker.going, worker.room, at.policy.workers_timeout_s
    if going is None or going.step is DrainPhase.FAREWELL:
        return worker, commands
    if room.asking and at.now_s < room.asked_at_s + 2 * timeout_s:
        return worker, commands
    if not room.asking and at.now_s < room.ask_at_s:
        return worker, commands
    if going.step is DrainPhase.ENDING and not room.told and _cordon_is_awaited(worker, going, at):
        return worker, commands
    number = room.number + 1
    if going.step is DrainPhase.FORCING:
        commands.append(EndWorkers(number, 0.0, timeout_s))
    elif going.step is DrainPhase.ENDING and not room.told:
        grace_s = max(0.0, force_at_s(going, at.policy) - at.now_s)
        commands.append(EndWorkers(number, grace_s, timeout_s))
    else:
        commands.append(ListWorkers(number, timeout_s))
    return replace(worker, room=replace(room, number=number, asking=True, asked_at_s=at.now_s)), commands


def _cordon_is_awaited(worker: AgentState, going: Shutdown, at: Context) -> bool:
    """Told before the node is cordoned, a worker's Job would start another one here."""
    room = worker.room
    is_open = room.cordoned is not True and room.cordon_trouble is None
    return is_open and worker.kube.answering and at.now_s < going.step_at_s + at.policy.workers_timeout_s


def on_workers(worker: AgentState, event: WorkersListed, at: Context) -> AgentState:
    """They were counted, or told to end and counted."""
    room, going = worker.room, worker.going
    if going is None or not room.asking or event.number != room.number:
        return worker
    pause_s = at.policy.workers_interval_s * (_PATIENCE if going.step is DrainPhase.WAITING else 1)
    room = replace(room, asking=False, ask_at_s=at.now_s + pause_s, trouble=event.problem)
    if event.count is not None:
        told = room.told or going.step in {DrainPhase.ENDING, DrainPhase.FORCING}
        room = replace(room, workers=event.count, told=told)
    return replace(worker, room=room)


def _follow(worker: AgentState, at: Context) -> AgentState:
    going = worker.going
    assert going is not None  # noqa: S101 - `manage` looked
    step = _next(worker, going, at)
    if step is None:
        return worker
    going = replace(going, step=step, step_at_s=at.now_s)
    if step is DrainPhase.FAREWELL:
        is_taken = going.kind is ShutdownKind.TERMINATE
        bound_s = at.policy.notice_farewell_s if is_taken else at.policy.farewell_s
        going = replace(going, deadline_at_s=min(going.deadline_at_s, at.now_s + bound_s))
        return replace(worker, going=going, call_retry_at_s=at.now_s)
    # What was counted for the step before does not decide this one.
    room = replace(worker.room, workers=None, asking=False, ask_at_s=at.now_s, trouble=None)
    return replace(worker, going=going, room=room)


def _next(worker: AgentState, going: Shutdown, at: Context) -> DrainPhase | None:
    """The step after the present one, None while that goes on."""
    if going.step is DrainPhase.FAREWELL:
        return None
    if at.now_s >= going.deadline_at_s - at.policy.farewell_s:
        return DrainPhase.FAREWELL
    return _AFTER[going.step](worker, going, at)


def _after_looking(worker: AgentState, going: Shutdown, at: Context) -> DrainPhase | None:
    count, room = worker.room.workers, worker.room
    can_see = worker.kube.logins.administers
    can_ask = can_see and worker.kube.answering
    if count is None and can_ask and room.trouble is None and at.now_s < going.step_at_s + _longest_s(at):
        return None
    if count is None:
        count = worker.kube.node.worker_count if can_see and worker.kube.node else 0
        # Nothing answers that could end them, or count them: what was seen last is what there is.
    if going.kind is ShutdownKind.LEAVE_IDLE and can_see:
        return DrainPhase.WAITING
    return DrainPhase.ENDING if count else DrainPhase.FAREWELL


def _after_waiting(worker: AgentState, going: Shutdown, _at: Context) -> DrainPhase | None:
    if going.kind is not ShutdownKind.LEAVE_IDLE:
        return DrainPhase.ENDING
    return DrainPhase.FAREWELL if worker.room.workers == 0 and _asked_after_withdrawing(worker) else None


def _after_ending(worker: AgentState, going: Shutdown, at: Context) -> DrainPhase | None:
    # Also when all are gone: their Jobs must not bring them back.
    over = worker.room.told and worker.room.workers == 0
    return DrainPhase.FORCING if over or at.now_s >= force_at_s(going, at.policy) else None


def _after_forcing(worker: AgentState, _going: Shutdown, _at: Context) -> DrainPhase | None:
    return DrainPhase.FAREWELL if worker.room.workers == 0 else None


def _longest_s(at: Context) -> float:
    """How long the first look may take."""
    return at.policy.workers_timeout_s * 1.25


def _asked_after_withdrawing(worker: AgentState) -> bool:
    """Whether the workers were counted at a time when no new one could be on its way."""
    registration, room = worker.registration, worker.room
    promise = registration.promise
    if not registration.known or promise is None or worker.api.phase is not LinkPhase.UP:
        return True
    return not promise.offered and room.asked_at_s > registration.at_s


_AFTER: dict[DrainPhase, Callable[[AgentState, Shutdown, Context], DrainPhase | None]] = {
    DrainPhase.LOOKING: _after_looking,
    DrainPhase.WAITING: _after_waiting,
    DrainPhase.ENDING: _after_ending,
    DrainPhase.FORCING: _after_forcing,
}


# --- The marker ------------------------------------------------------------------------------------------


def on_written(worker: AgentState, _event: StopWritten, _at: Context) -> AgentState:
    """On disk; or it cannot be, which keeps nobody here."""
    return worker if worker.going is None else replace(worker, going=replace(worker.going, marked=True))
