"""What ends the process, and with which exit code: every code of a running agent is chosen here.

A fault that no retry fixes ends the process only before the machine was ever registered, so that a person sees it at
once. Afterwards nothing but a shutdown (or --once) does, whatever breaks.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.context import Context
from agent.core.lifecycle.model import ExitDecision, Shutdown, ShutdownKind
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.state import AgentState
from agent.core.tunnel.faults import FaultKind
from agent.core.tunnel.model import Link, LinkPhase
from agent.errors import ExitCode

LINK_FAULTS: dict[FaultKind, ExitCode] = {
    FaultKind.AUTH: ExitCode.REFUSED,
    FaultKind.SECRET: ExitCode.REFUSED,
    FaultKind.HOST_KEY: ExitCode.UNUSABLE,
    FaultKind.KEY_FILE: ExitCode.UNUSABLE,
    FaultKind.NO_SSH: ExitCode.UNUSABLE,
}
"""Faults of a link that no retry fixes."""

REFUSALS: dict[OutcomeKind, ExitCode] = {
    OutcomeKind.UNAUTHORIZED: ExitCode.REFUSED,
    OutcomeKind.FORBIDDEN: ExitCode.REFUSED,
    OutcomeKind.SECRET: ExitCode.REFUSED,
    OutcomeKind.NO_ROUTE: ExitCode.UNUSABLE,
    OutcomeKind.BAD_POOL: ExitCode.UNUSABLE,
    OutcomeKind.BAD_REQUEST: ExitCode.UNUSABLE,
    OutcomeKind.UNUSABLE: ExitCode.UNUSABLE,
}
"""Answers of the gateway that no retry changes."""


AFTERWARDS: dict[ExitCode, str] = {
    ExitCode.BUG: "please report this traceback; a service starts the agent again in 30 s",
    ExitCode.GAVE_UP: "run it again; a service starts the agent again in 30 s",
    ExitCode.REFUSED: "a service starts the agent again in 30 s",
    ExitCode.UNUSABLE: "a service does not start the agent again: fix this, then 'systemctl restart beta9-worker'",
}
"""What follows an end with this exit code, for a person; bootstrap/systemd/beta9-worker.service decides it."""


def after_refusal(state: AgentState, outcome: Outcome) -> AgentState:
    """A call failed: that ends a first start which no retry would save."""
    code = REFUSALS.get(outcome.kind)
    if code is None or state.registration.times or state.shutdown is not None:
        return state
    return _exit(state, code, outcome.text)


def after_keepalive(state: AgentState) -> AgentState:
    """A keepalive was accepted, which is all that --once is for."""
    if not state.config.once:
        return state
    return _exit(state, ExitCode.OK, "registered and kept alive once")


def asked_twice(state: AgentState, reason: str) -> AgentState:
    """A second signal ends the process at once, whatever still runs."""
    return _exit(state, ExitCode.OK, f"{reason}, asked twice")


def left(state: AgentState, shutdown: Shutdown) -> AgentState:
    """Shutdown is complete, or its deadline has come. Only a failure makes a service manager start the next agent."""
    is_restart = shutdown.restart and shutdown.kind is ShutdownKind.HAND_OVER
    return _exit(state, ExitCode.GAVE_UP if is_restart else ExitCode.OK, shutdown.reason)


def decide_exit(state: AgentState, ctx: Context) -> AgentState:
    """End a first start that no retry would save, or that --once has waited for long enough.

    During a shutdown this no longer applies: the process was asked to end, and its exit code says so.
    """
    if state.exit_decision is not None or state.registration.times or state.shutdown is not None:
        return state
    for link in (state.api, state.reverse, state.data):
        decision = _hopeless(link, ctx)
        if decision is not None:
            return replace(state, exit_decision=decision)
    deadline_s = ctx.policy.once_deadline_s
    if state.config.once and ctx.now_s - state.born_at_s >= deadline_s:
        message = (
            f"not registered within {deadline_s:g} s: {_latest_error(state)}; 'beta9-worker doctor' checks each "
            "setting and each step of the way to the gateway"
        )
        return _exit(state, ExitCode.GAVE_UP, message)
    return state


def _exit(state: AgentState, code: ExitCode, reason: str) -> AgentState:
    return replace(state, exit_decision=ExitDecision(code, reason))


def _hopeless(link: Link, ctx: Context) -> ExitDecision | None:
    if link.phase is not LinkPhase.DOWN or link.fault is None:
        return None
    code = LINK_FAULTS.get(link.fault.kind)
    if code is not None:
        return ExitDecision(code, link.fault.message)
    since_s = link.conflict_since_s
    if since_s is not None and ctx.now_s - since_s >= ctx.policy.conflict_s:
        return ExitDecision(ExitCode.UNUSABLE, f"{link.fault.message}; tried for {ctx.policy.conflict_s:g} s")
    return None


def _latest_error(state: AgentState) -> str:
    fault = state.api.fault
    return (
        state.last_error
        or (fault.message if fault else "")
        or state.gateway_error
        or "no answer from the gateway"
    )
