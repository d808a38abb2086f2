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


def after_refusal(state: AgentState, outcome: Outcome) -> AgentState:
    """A call failed: that ends a start where asking again does not help."""
    code = REFUSALS.get(outcome.kind)
    if code is None or state.registration.times or state.shutdown is not None:
        return state
    return replace(state, exit_decision=ExitDecision(code, outcome.text))


def after_keepalive(state: AgentState) -> AgentState:
    """A keepalive was accepted: all that --once was to show."""
    if not state.config.once:
        return state
    return replace(state, exit_decision=ExitDecision(ExitCode.OK, "registered and kept alive once"))


def asked_twice(state: AgentState, reason: str) -> AgentState:
    """A second signal: at once, whatever runs."""
    return replace(state, exit_decision=ExitDecision(ExitCode.OK, f"{reason}, asked twice"))


def left(state: AgentState, shutdown: Shutdown) -> AgentState:
    """Everything is said and done, or its time is over."""
    return replace(state, exit_decision=ExitDecision(ExitCode.OK, shutdown.reason))


def decide_exit(state: AgentState, ctx: Context) -> AgentState:
    """End a start that no retry would save. Once registered, nothing but a signal or a bug ends the agent.

    Nor does it count any more while the agent leaves: it was asked to, and that is what its exit code says.
    """
    if state.exit_decision is not None or state.registration.times or state.shutdown is not None:
        return state
    for link in (state.api, state.reverse, state.data):
        decision = _hopeless(link, ctx)
        if decision is not None:
            return replace(state, exit_decision=decision)
    if state.config.once and ctx.now_s - state.born_at_s >= ctx.policy.once_deadline_s:
        why = _latest(state)
        return replace(
            state,
            exit_decision=ExitDecision(
                ExitCode.GAVE_UP, f"not registered within {ctx.policy.once_deadline_s:g} s: {why}"
            ),
        )
    return state


def _hopeless(link: Link, ctx: Context) -> ExitDecision | None:
    if link.phase is not LinkPhase.DOWN or link.fault is None:
        return None
    code = _LINK_ENDS.get(link.fault.kind)
    if code is not None:
        return ExitDecision(code, link.fault.message)
    since_s = link.conflict_since_s
    if since_s is not None and ctx.now_s - since_s >= ctx.policy.conflict_s:
        return ExitDecision(ExitCode.UNUSABLE, f"{link.fault.message}; tried for {ctx.policy.conflict_s:g} s")
    return None


def _latest(state: AgentState) -> str:
    fault = state.api.fault
    return (
        state.last_error
        or (fault.message if fault else "")
        or state.gateway_error
        or "no answer from the gateway"
    )
