"""What ends the process: only what cannot work, and only before the machine was ever registered."""

from __future__ import annotations

from dataclasses import replace

from agent.core.moment import Moment
from agent.core.trouble import TroubleKind
from agent.core.worker import Ending, Link, Phase, Worker
from agent.errors import Exit

_LINK_ENDS = {
    TroubleKind.AUTH: Exit.REFUSED,
    TroubleKind.SECRET: Exit.REFUSED,
    TroubleKind.HOST_KEY: Exit.UNUSABLE,
    TroubleKind.KEY_FILE: Exit.UNUSABLE,
    TroubleKind.NO_SSH: Exit.UNUSABLE,
}


def judge(worker: Worker, at: Moment) -> Worker:
    """End a start that no retry would save. Once registered, nothing but a signal or a bug ends the agent.

    Nor does it count any more while the agent leaves: it was asked to, and that is what its exit code says.
    """
    if worker.ending is not None or worker.registration.times or worker.going is not None:
        return worker
    for link in (worker.api, worker.reverse, worker.data):
        ending = _hopeless(link, at)
        if ending is not None:
            return replace(worker, ending=ending)
    if worker.setup.once and at.now_s - worker.born_at_s >= at.policy.once_deadline_s:
        why = _latest(worker)
        return replace(
            worker,
            ending=Ending(Exit.GAVE_UP, f"not registered within {at.policy.once_deadline_s:g} s: {why}"),
        )
    return worker


def _hopeless(link: Link, at: Moment) -> Ending | None:
    if link.phase is not Phase.DOWN or link.trouble is None:
        return None
    code = _LINK_ENDS.get(link.trouble.kind)
    if code is not None:
        return Ending(code, link.trouble.text)
    since_s = link.conflict_since_s
    if since_s is not None and at.now_s - since_s >= at.policy.conflict_s:
        return Ending(Exit.UNUSABLE, f"{link.trouble.text}; tried for {at.policy.conflict_s:g} s")
    return None


def _latest(worker: Worker) -> str:
    trouble = worker.api.trouble
    return (
        worker.last_error
        or (trouble.text if trouble else "")
        or worker.gateway_trouble
        or "no answer from the gateway"
    )
