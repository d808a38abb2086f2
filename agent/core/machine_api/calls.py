"""Which call the gateway gets next. One call is in flight at a time, so that none overtakes another.

replies.py takes in what came of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.core.config import K3sMode
from agent.core.context import Context
from agent.core.effects import CallGateway, Effect
from agent.core.events import CallEnded
from agent.core.lifecycle.model import DrainPhase, ShutdownKind, Waiting
from agent.core.machine_api import offer, replies, wire
from agent.core.machine_api.capacity import capacity, gpus_awaited
from agent.core.machine_api.farewell import farewell_sent, may_speak
from agent.core.machine_api.lease import has_expired
from agent.core.machine_api.model import Advertisement, Call, CallKind
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.state import AgentState
from agent.core.tunnel.model import LinkPhase

_CALL_SLACK_S = 2.0
"""The adapter ends a call at its deadline; this much later the core no longer waits for it."""


def manage(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    """Make the next call if one is due; give up on one that has outlived its deadline."""
    if state.call is not None and ctx.now_s >= state.call.deadline_at_s:
        outcome = Outcome(OutcomeKind.NO_ANSWER, f"{state.call.kind.value}: no end after its time limit")
        state = replies.on_ended(state, CallEnded(state.call.call_id, outcome), ctx)
    if state.registration.known and has_expired(state.lease, ctx):
        state = replies.forgotten_by_gateway(state)
    if state.call is not None or state.exit_decision is not None or state.api.phase is not LinkPhase.UP:
        return state, []
    kind = next_kind(state, ctx) if ctx.now_s >= state.call_retry_at_s else None
    return (state, []) if kind is None else _call(state, kind, ctx)


def next_kind(state: AgentState, ctx: Context) -> CallKind | None:
    """Return the call that is due now, if any."""
    if state.shutdown is not None and not may_speak(state, state.shutdown):
        return None
    if state.shutdown is not None and state.shutdown.phase is DrainPhase.FAREWELL:
        return None if farewell_sent(state) else CallKind.FAREWELL
    if not state.registration.checked:
        return CallKind.CHECK
    if needs_registration(state, ctx):
        return CallKind.REGISTER if awaited(state, ctx) is None else None
    if ctx.now_s >= state.lease.next_at_s and may_keep_alive(state) and not _is_counting_workers(state):
        return CallKind.KEEPALIVE
    return None


def _is_counting_workers(state: AgentState) -> bool:
    """Perhaps no worker runs here: then the registration that withdraws the offer is the last call of all."""
    shutdown = state.shutdown
    return (
        shutdown is not None
        and shutdown.kind is not ShutdownKind.HAND_OVER
        and shutdown.phase is DrainPhase.LOOKING
    )


def needs_registration(state: AgentState, ctx: Context) -> bool:
    """Return whether the gateway does not know this machine, or knows something else of it.

    A registration that no keepalive follows is renewed, too, before the gateway forgets it.
    """
    if not offer.is_told(state):
        return True
    is_silent = not may_keep_alive(state)
    return is_silent and ctx.now_s - state.registration.at_s >= ctx.policy.ttl_s * 2 / 3


def awaited(state: AgentState, ctx: Context) -> Waiting | None:
    """Return what a registration must wait for in order to be true, for a bounded time; None: register now."""
    if state.host is None or not state.kube.looked:
        return Waiting("the first look at this machine and its k3s", "both were looked at")
    is_first = state.registration.times == 0
    if is_first and state.config.k3s is K3sMode.REQUIRED and not state.kube.answering:
        return Waiting(f"this machine's k3s: {state.kube.reason}", "k3s answers (BETA9_K3S is required)")
    left_s = state.born_at_s + ctx.policy.gpu_wait_s - ctx.now_s
    if is_first and gpus_awaited(state) and left_s > 0:
        what = "the device plugin to advertise the GPUs that the driver sees"
        return Waiting(
            what, f"it does; in {left_s:.0f} s the machine is registered without offering anything"
        )
    wait_s = _wait_for_path_s(state, is_first, ctx)
    since_s = state.api.up_since_s
    if wait_s is None or (since_s is not None and ctx.now_s - since_s >= wait_s):
        return None
    fault = state.reverse.fault
    return Waiting(
        f"the path from the gateway to this machine's k3s: {fault.message if fault else 'it is not verified yet'}",
        f"that path answers; after {wait_s:g} s the machine is registered without it, and offers nothing",
    )


def _wait_for_path_s(state: AgentState, is_first: bool, ctx: Context) -> float | None:
    """How long, after the gateway answers, a registration waits for the reverse path; None: not at all."""
    if state.reverse.phase is LinkPhase.UP:
        return None
    if offer.path_expected(state) and not state.config.once:
        if is_first:
            return ctx.policy.reverse_wait_s
        # Forgotten during an outage: the path comes back a moment after the api link, and one registration says all.
        is_forgotten = not state.registration.known and state.kube.answering
        return ctx.policy.path_grace_s if is_forgotten else 0.0
    if offer.address_expected(state):
        # The same moment: the gateway may take 5 s for each registration.
        return ctx.policy.path_grace_s
    return None


def may_keep_alive(state: AgentState) -> bool:
    """Return whether a keepalive may be sent: it makes the machine ready, so the reverse path must have worked once."""
    if not state.registration.known:
        return False
    is_unverified = offer.path_expected(state) and not state.path_verified and not state.config.once
    return not is_unverified or state.lease.ready


def _call(state: AgentState, kind: CallKind, ctx: Context) -> tuple[AgentState, list[Effect]]:
    is_quick = kind in {CallKind.CHECK, CallKind.KEEPALIVE}
    timeout_s = ctx.policy.keepalive_timeout_s if is_quick else ctx.policy.register_timeout_s
    call_id = state.calls + 1
    advertisement = offer.advertisement(state) if kind in {CallKind.REGISTER, CallKind.FAREWELL} else None
    call = Call(call_id, kind, ctx.now_s + timeout_s + _CALL_SLACK_S, advertisement)
    body = _body(state, kind, advertisement)
    effect = CallGateway(call_id, kind, timeout_s, body, fresh_secret=state.refused)
    if kind is CallKind.KEEPALIVE:
        state = replace(state, registration=replace(state.registration, quiet=False))
    return replace(state, call=call, calls=call_id), [effect]


def _body(state: AgentState, kind: CallKind, advertisement: Advertisement | None) -> dict[str, Any]:
    if advertisement is not None:
        return wire.register_body(state.config, advertisement, state.host.private_ip if state.host else "")
    if kind is CallKind.CHECK:
        return wire.check_body()
    return wire.keepalive_body(state.config, capacity(state), state.host, state.kube.node)
