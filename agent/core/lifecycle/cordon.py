"""The node's cordon: set while nothing may start here, and taken back at the next start.

Before it is taken back, whatever waits for that moment is cleared away: a drain that was cut short leaves Jobs whose
next pod would be a worker that the gateway has given up (kubernetes/worker_jobs.py).
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.context import Context
from agent.core.effects import ClearJobs, CordonNode, Effect
from agent.core.events import JobsCleared, NodeCordoned
from agent.core.lifecycle.model import DrainPhase, ShutdownKind
from agent.core.machine_api import offer
from agent.core.state import AgentState


def manage(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    """At the start look for Jobs from before, then bring the cordon to what it should be."""
    if not can_ask(state):
        return state, []
    state, looks = _clear(state, ctx)
    state, changes = _cordon(state, ctx)
    return state, [*looks, *changes]


def can_ask(state: AgentState) -> bool:
    """Return whether the node can be changed: there is one, and the agent may."""
    kube = state.kube
    may_ask = kube.logins.administers and kube.answering and kube.node is not None
    return may_ask and not state.config.once and state.exit_decision is None


def _clear(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    node_drain = state.node_drain
    is_settled = node_drain.cleared or node_drain.clearing or state.shutdown is not None
    if is_settled or ctx.now_s < node_drain.clear_at_s:
        return state, []
    effect = ClearJobs(ctx.policy.workers_timeout_s)
    return replace(state, node_drain=replace(node_drain, clearing=True)), [effect]


def _cordon(state: AgentState, ctx: Context) -> tuple[AgentState, list[Effect]]:
    node_drain, wanted = state.node_drain, _wanted(state)
    if node_drain.cordoning or ctx.now_s < node_drain.cordon_at_s:
        return state, []
    if wanted is None or node_drain.cordoned is wanted or not (wanted or node_drain.cleared):
        return state, []
    # With nothing known, uncordoning also takes back what an earlier agent did.
    effect = CordonNode(wanted, ctx.policy.workers_timeout_s)
    return replace(state, node_drain=replace(node_drain, cordoning=True)), [effect]


def _wanted(state: AgentState) -> bool | None:
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
    """The node was cordoned or uncordoned, or the attempt failed and is repeated."""
    node_drain = replace(state.node_drain, cordoning=False, cordon_error=event.error)
    if event.error is not None:
        again_at_s = ctx.now_s + ctx.policy.workers_interval_s
        return replace(state, node_drain=replace(node_drain, cordon_at_s=again_at_s))
    # What is known of the node is out of date: it is read again at once, since an offer may wait for it.
    kube = replace(state.kube, probe_at_s=ctx.now_s)
    return replace(state, node_drain=replace(node_drain, cordoned=event.is_cordoned), kube=kube)


def on_cleared(state: AgentState, event: JobsCleared, ctx: Context) -> AgentState:
    """Jobs from before were looked for. Only a look that finds none is the last."""
    node_drain = replace(
        state.node_drain,
        clearing=False,
        cleared=not event.found and event.error is None,
        clear_at_s=ctx.now_s + ctx.policy.workers_interval_s,
        left_over=event.found,
        clear_error=event.error,
    )
    return replace(state, node_drain=node_drain)
