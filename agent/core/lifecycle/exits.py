"""What ends the process, and with which exit code: every code of a running agent is chosen here.

Something that cannot work ends it only before the machine was ever registered, so that a person sees it at once.
Afterwards nothing but leaving (or --once) does, whatever breaks.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.context import Context
from agent.core.lifecycle.model import ExitDecision, Shutdown
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.state import AgentState
from agent.core.tunnel.faults import FaultKind
from agent.core.tunnel.model import Link, LinkPhase
from agent.errors import ExitCode

_LINK_ENDS = {
    FaultKind.AUTH: ExitCode.REFUSED,
    FaultKind.SECRET: ExitCode.REFUSED,
    FaultKind.HOST_KEY: ExitCode.UNUSABLE,
    FaultKind.KEY_FILE: ExitCode.UNUSABLE,
    FaultKind.NO_SSH: ExitCode.UNUSABLE,
}


REFUSALS: dict[OutcomeKind, ExitCode] = {
    OutcomeKind.UNAUTHORIZED: ExitCode.REFUSED,
    OutcomeKind.FORBIDDEN: ExitCode.REFUSED,
    OutcomeKind.SECRET: ExitCode.REFUSED,
    OutcomeKind.NO_ROUTE: ExitCode.UNUSABLE,
    OutcomeKind.BAD_POOL: ExitCode.UNUSABLE,
    OutcomeKind.BAD_REQUEST: ExitCode.UNUSABLE,
    OutcomeKind.UNUSABLE: ExitCode.UNUSABLE,
}
"""Answers of the gateway that asking again does not change, and what each ends a first start with."""


def after_refusal(worker: AgentState, outcome: Outcome) -> AgentState:
    """A call failed: that ends a start where asking again does not help."""
    code = REFUSALS.get(outcome.kind)
    if code is None or worker.registration.times or worker.going is not None:
        return worker
    return replace(worker, ending=ExitDecision(code, outcome.text))


def after_keepalive(worker: AgentState) -> AgentState:
    """A keepalive was accepted: all that --once was to show."""
    if not worker.setup.once:
        return worker
    return replace(worker, ending=ExitDecision(ExitCode.OK, "registered and kept alive once"))


def asked_twice(worker: AgentState, reason: str) -> AgentState:
    """A second signal: at once, whatever runs."""
    return replace(worker, ending=ExitDecision(ExitCode.OK, f"{reason}, asked twice"))


def left(worker: AgentState, going: Shutdown) -> AgentState:
    """Everything is said and done, or its time is over."""
    return replace(worker, ending=ExitDecision(ExitCode.OK, going.reason))


def decide_exit(worker: AgentState, at: Context) -> AgentState:
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
            ending=ExitDecision(
                ExitCode.GAVE_UP, f"not registered within {at.policy.once_deadline_s:g} s: {why}"
            ),
        )
    return worker


def _hopeless(link: Link, at: Context) -> ExitDecision | None:
    if link.phase is not LinkPhase.DOWN or link.trouble is None:
        return None
    code = _LINK_ENDS.get(link.trouble.kind)
    if code is not None:
        return ExitDecision(code, link.trouble.text)
    since_s = link.conflict_since_s
    if since_s is not None and at.now_s - since_s >= at.policy.conflict_s:
        return ExitDecision(ExitCode.UNUSABLE, f"{link.trouble.text}; tried for {at.policy.conflict_s:g} s")
    return None


def _latest(worker: AgentState) -> str:
    trouble = worker.api.trouble
    return (
        worker.last_error
        or (trouble.text if trouble else "")
        or worker.gateway_trouble
        or "no answer from the gateway"
    )
