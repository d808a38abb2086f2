"""The core's entry point: an event goes in; the new state and the effects come out.

    step(state, event, now_s, policy, jitter) -> (state, effects)

The order inside one step, and the reasons for it: agent/core/__init__.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.core.context import Context
from agent.core.effects import Effect, Exit, ReadFacts
from agent.core.events import (
    ApiProbed,
    CallEnded,
    ContestProbed,
    Event,
    FactsRead,
    HairpinChecked,
    JobsCleared,
    KubeLoginsRead,
    KubeProbed,
    LinkComplained,
    LinkEnded,
    LinkLoggedIn,
    NodeCordoned,
    NoticeReceived,
    ReverseProbed,
    ShutdownRequested,
    StopWritten,
    TailnetJoinTried,
    TailscaledQueried,
    Tick,
    WorkersListed,
)
from agent.core.hairpin import upkeep
from agent.core.host.facts import GpuReading, HostFacts
from agent.core.kubernetes import health
from agent.core.lifecycle import cordon, displayed_state, drain, exits, shutdown
from agent.core.lifecycle.model import FINAL
from agent.core.machine_api import calls, offer, replies
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.tailnet import login
from agent.core.tunnel import contest, probe_results, schedule, ssh_events
from agent.core.tunnel.model import Link, LinkPhase


def _on_tick(state: AgentState, _event: Tick, _ctx: Context) -> AgentState:
    return state


def _on_facts(state: AgentState, event: FactsRead, ctx: Context) -> AgentState:
    if event.gpus is not None and event.gpus.driver_appeared and state.shutdown is None:
        state = shutdown.on_requested(state, shutdown.DRIVER_APPEARED, ctx)
    return replace(
        state,
        host=event.host or state.host or HostFacts(0, 0),
        gpus=event.gpus or GpuReading(state.gpus.gpus, event.error),
        reading=False,
        facts_at_s=ctx.now_s + ctx.policy.facts_interval_s,
    )


HANDLERS: dict[type, Callable[[AgentState, Any, Context], AgentState]] = {
    Tick: _on_tick,
    FactsRead: _on_facts,
    LinkLoggedIn: ssh_events.on_logged_in,
    LinkComplained: ssh_events.on_complained,
    LinkEnded: ssh_events.on_ended,
    ApiProbed: probe_results.on_api_probed,
    ReverseProbed: probe_results.on_reverse_probed,
    ContestProbed: contest.on_probed,
    KubeProbed: health.on_probed,
    HairpinChecked: upkeep.on_checked,
    KubeLoginsRead: health.on_logins_read,
    TailscaledQueried: login.on_queried,
    TailnetJoinTried: login.on_join_tried,
    CallEnded: replies.on_ended,
    ShutdownRequested: shutdown.on_requested,
    NoticeReceived: shutdown.on_notice,
    NodeCordoned: cordon.on_cordoned,
    JobsCleared: cordon.on_cleared,
    WorkersListed: drain.on_workers,
    StopWritten: drain.on_written,
}


def step(
    state: AgentState, event: Event, now_s: float, policy: Policy, jitter: float = 0.5
) -> tuple[AgentState, tuple[Effect, ...]]:
    """Take one event in. `now_s` is monotonic, `jitter` is drawn evenly from [0, 1) by the caller.

    STOPPED and FAILED are final: no event changes them, and none has effects.
    """
    if state.displayed in FINAL:
        return state, ()
    ctx = Context(now_s, policy, jitter)
    state = HANDLERS[type(event)](state, event, ctx)
    return _advance(state, ctx)


def _advance(state: AgentState, ctx: Context) -> tuple[AgentState, tuple[Effect, ...]]:
    """Do what is due. The order matters: the offer depends on the links, calls on the offer."""
    effects: list[Effect] = []
    if not state.reading and ctx.now_s >= state.facts_at_s:
        state = replace(state, reading=True)
        effects.append(ReadFacts(with_containers=state.host is not None))
    state, kube_effects = health.manage(state, ctx)
    state, tailnet_effects = login.manage(state, ctx)
    state, hairpin_effects = upkeep.manage(state, ctx)
    state, link_effects = schedule.manage(state, ctx)
    state, contest_effects = contest.manage(state, ctx)
    state = exits.decide_exit(state, ctx)
    state, drain_effects = drain.manage(state, ctx)
    state = replace(state, offer=offer.decide(state, ctx))
    state, call_effects = calls.manage(state, ctx)
    state = displayed_state.follow(shutdown.manage(state, ctx), ctx)
    effects += [
        *kube_effects,
        *hairpin_effects,
        *tailnet_effects,
        *link_effects,
        *contest_effects,
        *drain_effects,
        *call_effects,
    ]
    if state.displayed in FINAL:
        state, stops = schedule.manage(state, ctx)
        assert state.exit_decision is not None  # noqa: S101 - the table enters a final state for no other reason
        effects = [*effects, *stops, Exit(state.exit_decision.exit_code, state.exit_decision.reason)]
    return state, tuple(effects)


def wake_in_s(state: AgentState, now_s: float, longest_s: float = 1.0) -> float:
    """Return the seconds until something is due, at most `longest_s`. Waking early costs a look, never a mistake."""
    due = [state.call_retry_at_s, state.lease.next_at_s, state.kube.probe_at_s, state.node_drain.ask_at_s]
    due += [state.hairpin.check_at_s, state.fallback.trial_at_s]
    due += [state.tailnet.look_at_s, state.tailnet.join_at_s]
    due += [_link_due_s(link) for link in (state.api, state.reverse, state.data)]
    ahead = [moment - now_s for moment in due if moment > now_s]
    return max(0.005, min([longest_s, *ahead]))


def _link_due_s(link: Link) -> float:
    return link.retry_at_s if link.phase is LinkPhase.DOWN else link.probe_at_s
