"""How the machine is emptied: cordon, tell the workers to end, wait, force; and the marker that it was told to go.

    LOOKING ─► FAREWELL                              no workers, or no way to see to them: seconds
    LOOKING ─► ENDING ─► FORCING ─► FAREWELL         workers get until shortly before the deadline
    LOOKING ─► WAITING ─► FAREWELL                   `leave --when-idle`: as long as they take

Until FAREWELL the lease is kept; nothing is offered from the first moment on (see offer).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agent.core.context import Moment
from agent.core.effects import Command, CordonNode, EndWorkers, LookAtWorkers, WriteStop
from agent.core.events import NodeCordoned, StopWritten, WorkersSeen
from agent.core.lifecycle.model import Going, GoingKind, Step
from agent.core.machine_api import offer
from agent.core.policy import Policy
from agent.core.state import Worker
from agent.core.tunnel.model import Phase

_PATIENCE = 5
"""Waiting for hours, the workers are counted this many times less often."""


def manage(worker: Worker, at: Moment) -> tuple[Worker, list[Command]]:
    """Go on with whatever is next; with nobody leaving, that is at most the cordon."""
    worker, commands = _cordon(worker, at)
    going = worker.going
    if going is None or going.kind is GoingKind.HAND_OVER or worker.ending is not None:
        return worker, commands
    if going.mark and not going.marking:
        commands.append(WriteStop(going.reason))
        worker = replace(worker, going=replace(going, marking=True))
    for _ in Step:  # no step leads back, so this many changes at most
        worker = _follow(worker, at)
    return _ask(worker, at, commands)


def force_at_s(going: Going, policy: Policy) -> float:
    """When workers that still run are ended by force: well before the end, but not before half the time is over."""
    is_taken = going.kind is GoingKind.TERMINATE
    before_s = policy.force_before_s if is_taken else policy.stop_force_before_s
    return going.deadline_at_s - min(before_s, (going.deadline_at_s - going.since_s) / 2)


# --- The node --------------------------------------------------------------------------------------------


def _cordon(worker: Worker, at: Moment) -> tuple[Worker, list[Command]]:
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


def _wants_cordon(worker: Worker) -> bool | None:
    """Whether the node is to be cordoned; None: leave it as it is."""
    going = worker.going
    if going is None:
        return offer.is_withdrawn(worker)
    if going.kind is GoingKind.HAND_OVER:
        return None
    if going.kind is GoingKind.STOP and going.step in {Step.LOOKING, Step.FAREWELL}:
        # A restart of an idle machine need not touch the node: without the tunnel nothing new comes.
        return None
    return True


def on_cordoned(worker: Worker, event: NodeCordoned, at: Moment) -> Worker:
    """The node took it, or did not and is asked again."""
    room = replace(worker.room, cordoning=False, cordon_trouble=event.problem)
    if event.problem is None:
        return replace(worker, room=replace(room, cordoned=event.is_cordoned))
    return replace(worker, room=replace(room, cordon_at_s=at.now_s + at.policy.workers_interval_s))


# --- The workers -----------------------------------------------------------------------------------------


def _ask(worker: Worker, at: Moment, commands: list[Command]) -> tuple[Worker, list[Command]]:
    going, room, timeout_s = worker.going, worker.room, at.policy.workers_timeout_s
    if going is None or going.step is Step.FAREWELL:
        return worker, commands
    if room.asking and at.now_s < room.asked_at_s + 2 * timeout_s:
        return worker, commands
    if not room.asking and at.now_s < room.ask_at_s:
        return worker, commands
    if going.step is Step.ENDING and not room.told and _cordon_is_awaited(worker, going, at):
        return worker, commands
    number = room.number + 1
    if going.step is Step.FORCING:
        commands.append(EndWorkers(number, 0.0, timeout_s))
    elif going.step is Step.ENDING and not room.told:
        grace_s = max(0.0, force_at_s(going, at.policy) - at.now_s)
        commands.append(EndWorkers(number, grace_s, timeout_s))
    else:
        commands.append(LookAtWorkers(number, timeout_s))
    return replace(worker, room=replace(room, number=number, asking=True, asked_at_s=at.now_s)), commands


def _cordon_is_awaited(worker: Worker, going: Going, at: Moment) -> bool:
    """Told before the node is cordoned, a worker's Job would start another one here."""
    room = worker.room
    is_open = room.cordoned is not True and room.cordon_trouble is None
    return is_open and worker.kube.answering and at.now_s < going.step_at_s + at.policy.workers_timeout_s


def on_workers(worker: Worker, event: WorkersSeen, at: Moment) -> Worker:
    """They were counted, or told to end and counted."""
    room, going = worker.room, worker.going
    if going is None or not room.asking or event.number != room.number:
        return worker
    pause_s = at.policy.workers_interval_s * (_PATIENCE if going.step is Step.WAITING else 1)
    room = replace(room, asking=False, ask_at_s=at.now_s + pause_s, trouble=event.problem)
    if event.count is not None:
        told = room.told or going.step in {Step.ENDING, Step.FORCING}
        room = replace(room, workers=event.count, told=told)
    return replace(worker, room=room)


def _follow(worker: Worker, at: Moment) -> Worker:
    going = worker.going
    assert going is not None  # noqa: S101 - `manage` looked
    step = _next(worker, going, at)
    if step is None:
        return worker
    going = replace(going, step=step, step_at_s=at.now_s)
    if step is Step.FAREWELL:
        is_taken = going.kind is GoingKind.TERMINATE
        bound_s = at.policy.notice_farewell_s if is_taken else at.policy.farewell_s
        going = replace(going, deadline_at_s=min(going.deadline_at_s, at.now_s + bound_s))
        return replace(worker, going=going, call_retry_at_s=at.now_s)
    # What was counted for the step before does not decide this one.
    room = replace(worker.room, workers=None, asking=False, ask_at_s=at.now_s, trouble=None)
    return replace(worker, going=going, room=room)


def _next(worker: Worker, going: Going, at: Moment) -> Step | None:
    """The step after the present one, None while that goes on."""
    if going.step is Step.FAREWELL:
        return None
    if at.now_s >= going.deadline_at_s - at.policy.farewell_s:
        return Step.FAREWELL
    return _AFTER[going.step](worker, going, at)


def _after_looking(worker: Worker, going: Going, at: Moment) -> Step | None:
    count, room = worker.room.workers, worker.room
    can_see = worker.kube.logins.administers
    can_ask = can_see and worker.kube.answering
    if count is None and can_ask and room.trouble is None and at.now_s < going.step_at_s + _longest_s(at):
        return None
    if count is None:
        count = worker.kube.node.worker_count if can_see and worker.kube.node else 0
        # Nothing answers that could end them, or count them: what was seen last is what there is.
    if going.kind is GoingKind.LEAVE_IDLE and can_see:
        return Step.WAITING
    return Step.ENDING if count else Step.FAREWELL


def _after_waiting(worker: Worker, going: Going, _at: Moment) -> Step | None:
    if going.kind is not GoingKind.LEAVE_IDLE:
        return Step.ENDING
    return Step.FAREWELL if worker.room.workers == 0 and _asked_after_withdrawing(worker) else None


def _after_ending(worker: Worker, going: Going, at: Moment) -> Step | None:
    # Also when all are gone: their Jobs must not bring them back.
    over = worker.room.told and worker.room.workers == 0
    return Step.FORCING if over or at.now_s >= force_at_s(going, at.policy) else None


def _after_forcing(worker: Worker, _going: Going, _at: Moment) -> Step | None:
    return Step.FAREWELL if worker.room.workers == 0 else None


def _longest_s(at: Moment) -> float:
    """How long the first look may take."""
    return at.policy.workers_timeout_s * 1.25


def _asked_after_withdrawing(worker: Worker) -> bool:
    """Whether the workers were counted at a time when no new one could be on its way."""
    registration, room = worker.registration, worker.room
    promise = registration.promise
    if not registration.known or promise is None or worker.api.phase is not Phase.UP:
        return True
    return not promise.offered and room.asked_at_s > registration.at_s


_AFTER: dict[Step, Callable[[Worker, Going, Moment], Step | None]] = {
    Step.LOOKING: _after_looking,
    Step.WAITING: _after_waiting,
    Step.ENDING: _after_ending,
    Step.FORCING: _after_forcing,
}


# --- The marker ------------------------------------------------------------------------------------------


def on_written(worker: Worker, _event: StopWritten, _at: Moment) -> Worker:
    """On disk; or it cannot be, which keeps nobody here."""
    return worker if worker.going is None else replace(worker, going=replace(worker.going, marked=True))
