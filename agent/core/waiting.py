"""What the machine waits for, and what ends the waiting: an answer for every state and every link that is down.

For people, in `/status`, `doctor` and the log; no decision depends on it. What a first registration waits for is
decided, and therefore worded, in machine_api/calls.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from agent.core.config import Connection, K3sMode
from agent.core.context import Context
from agent.core.lifecycle.model import DisplayedState, DrainPhase, Shutdown, ShutdownKind, Waiting
from agent.core.machine_api import calls
from agent.core.machine_api.placement import unplaceable
from agent.core.state import AgentState
from agent.core.tailnet import login
from agent.core.tunnel import reverse_form
from agent.core.tunnel.model import LinkPhase, Purpose
from agent.core.tunnel.transitions import is_wanted


def waiting(state: AgentState, ctx: Context) -> Waiting | None:
    """Return what the machine waits for; None if work can be placed, or if the process ends."""
    rule = _RULES.get(state.displayed)
    return rule(state, ctx) if rule is not None and state.exit_decision is None else None


def link_reason(state: AgentState, purpose: Purpose, ctx: Context) -> str | None:
    """Return why the link is not up; None if it is."""
    link = state.link(purpose)
    if link.phase is LinkPhase.UP:
        return None
    if link.fault is not None:
        return link.fault.message
    if link.any_port and link.logged_in_at_s is not None and not state.kube.answering:
        return f"its port 6443 is closed while this machine's k3s does not answer ({state.kube.reason})"
    if link.phase is LinkPhase.STARTING:
        return f"connecting for {ctx.now_s - link.started_at_s:.0f} s"
    if not is_wanted(state, purpose):
        return _unwanted(state)
    return "about to connect" if purpose is Purpose.API else "waits for the link to the gateway"


def _unwanted(state: AgentState) -> str:
    """Only the reverse path comes and goes; the others are wanted until the agent ends."""
    kube = state.kube
    if state.exit_decision is not None:
        return "closed: the agent ends"
    if state.config.connection is Connection.DIRECT:
        return "not used with a direct connection: the gateway dials BETA9_HOSTNAME"
    if state.config.k3s is K3sMode.NONE:
        return "not used: BETA9_K3S is none, and there is no BETA9_K3S_TOKEN for the gateway"
    if not kube.looked:
        return "waits for the first look at this machine's k3s"
    if reverse_form.uses_any_port(state) and not state.hairpin.works:
        fault = state.hairpin.fault
        return fault.message if fault else "the way to this machine's ports is being made"
    return f"closed while this machine's k3s does not answer ({kube.reason})"


# --- One rule for each displayed state -------------------------------------------------------------------


def _starting(_state: AgentState, _ctx: Context) -> Waiting:
    return Waiting(
        "this machine's processors, memory and GPUs to be read",
        "they are read: at once, unless the NVIDIA driver is still loading",
    )


def _preparing(state: AgentState, ctx: Context) -> Waiting:
    kube = state.kube
    pause_s = ctx.policy.kube_interval_s if kube.expected else ctx.policy.kube_look_s
    if not kube.looked:
        return Waiting("the first look at this machine's k3s", "it has answered, or not")
    return Waiting(
        f"this machine's k3s: {kube.reason}",
        f"k3s answers (probed every {pause_s:g} s); with BETA9_K3S=auto the agent would go on without it",
    )


def _connecting(state: AgentState, ctx: Context) -> Waiting:
    link = state.api
    if state.config.connection is Connection.TAILSCALE and not login.is_up(state):
        fault = login.current_fault(state)
        what = fault.message if fault else "tailscaled's answer"
        return Waiting(what, "tailscaled reports that this machine is connected")
    if link.phase is LinkPhase.DOWN:
        what = link.fault.message if link.fault else "the next attempt to reach the gateway"
        return Waiting(what, f"the next attempt succeeds; it starts in {_seconds(link.retry_at_s, ctx)} s")
    is_ssh = state.config.connection is Connection.SSH
    if is_ssh and link.logged_in_at_s is None:
        limit_s = ctx.policy.start_timeout_s
        return Waiting("the login at BETA9_SSH_HOST", f"sshd lets ssh in; given up after {limit_s:g} s")
    what = link.fault.message if link.fault else "the gateway's answer" + (" through the tunnel" * is_ssh)
    return Waiting(what, "the gateway answers; it is asked again within seconds")


def _registering(state: AgentState, ctx: Context) -> Waiting:
    call = state.call
    if call is not None:
        until = f"it answers; given up in {_seconds(call.deadline_at_s, ctx)} s, and tried again"
        return Waiting(f"the gateway's answer to the {call.kind.value} call", until)
    if state.misses and ctx.now_s < state.call_retry_at_s:
        until = f"a call succeeds; the next is made in {_seconds(state.call_retry_at_s, ctx)} s"
        return Waiting(state.last_error or "an answer that the gateway did not give", until)
    awaited = calls.awaited(state, ctx) if calls.needs_registration(state, ctx) else None
    if awaited is not None:
        return awaited
    if state.registration.known and not calls.may_keep_alive(state):
        reason = link_reason(state, Purpose.REVERSE, ctx) or "it was not verified yet"
        return Waiting(
            f"the path from the gateway to this machine's k3s: {reason}",
            "that path answers; until then the gateway lists the machine as registered, and places nothing",
        )
    return Waiting("the next call to the gateway", "it is made: within a second")


def _ready(state: AgentState, ctx: Context) -> Waiting | None:
    reason = unplaceable(state)
    if reason is None:
        return None
    if not state.offer.offered:
        return Waiting(
            reason, _ENDS.get(state.offer.by or "", "the cause is gone; it is checked every few seconds")
        )
    return _registering(state, ctx)


_ENDS = {
    "rebalanced": "the recommendation ends (an hour after it was made), or the cloud takes the machine away",
    "full": "other pods end, or the agent is started with a smaller reserve",
    "job": "the Job has a pod, or is deleted; looked at every few seconds",
    "once": "the agent is run without --once",
    "path": "the path answers; it is probed every few seconds",
}
"""What ends a reason against the offer, where 'the cause is gone' would not say it."""


def _draining(state: AgentState, ctx: Context) -> Waiting | None:
    shutdown, workers = state.shutdown, state.node_drain.workers
    if shutdown is None:
        return None
    if shutdown.kind is ShutdownKind.HAND_OVER:
        return Waiting(
            "the gateway to hear that nothing is offered", f"it has answered{_at_the_latest(shutdown, ctx)}"
        )
    count = "the workers" if workers is None else "the last worker" if workers == 1 else f"{workers} workers"
    what, until = {
        DrainPhase.LOOKING: ("the workers on this machine to be counted", "they are counted"),
        DrainPhase.WAITING: (
            f"{count} to end without being told to",
            "the last one has ended, however long that takes",
        ),
        DrainPhase.ENDING: (f"{count} to end; they were told to", "the last one has ended, or time runs out"),
        DrainPhase.FORCING: (
            f"{'the workers' if workers == 0 else count} and their Jobs to be removed",
            "they are gone",
        ),
        DrainPhase.FAREWELL: ("the gateway to hear that the machine goes", "it has answered"),
    }[shutdown.phase]
    fault = state.node_drain.list_error or state.node_drain.cordon_error
    return Waiting(f"{what} ({fault})" if fault else what, until + _at_the_latest(shutdown, ctx))


def _at_the_latest(shutdown: Shutdown, ctx: Context) -> str:
    if math.isinf(shutdown.deadline_at_s):
        return ""
    return f"; at the latest in {_seconds(shutdown.deadline_at_s, ctx)} s"


def _seconds(at_s: float, ctx: Context) -> int:
    return math.ceil(max(0.0, at_s - ctx.now_s))


_RULES: dict[DisplayedState, Callable[[AgentState, Context], Waiting | None]] = {
    DisplayedState.STARTING: _starting,
    DisplayedState.PREPARING: _preparing,
    DisplayedState.CONNECTING: _connecting,
    DisplayedState.BACKOFF: _connecting,
    DisplayedState.REGISTERING: _registering,
    DisplayedState.READY: _ready,
    DisplayedState.DRAINING: _draining,
}
"""The final states wait for nothing."""
