"""The core's one door: what happened goes in; the new knowledge and what is to be done come out.

    step(worker, event, now_s, policy, jitter) -> (worker, commands)

Nothing here or below waits, reads a clock, draws a random number or talks to anybody.
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
    Event,
    FactsRead,
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
from agent.core.kubernetes import health as kube
from agent.core.lifecycle import displayed_state, drain
from agent.core.lifecycle import exits as fatal
from agent.core.lifecycle import shutdown as going
from agent.core.lifecycle.model import FINAL
from agent.core.machine_api import calls, offer
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.tailnet import login as tailnet
from agent.core.tunnel import schedule as link_upkeep
from agent.core.tunnel import ssh_events
from agent.core.tunnel.model import Link, LinkPhase


def _on_tick(worker: AgentState, _event: Tick, _at: Context) -> AgentState:
    return worker


def _on_facts(worker: AgentState, event: FactsRead, at: Context) -> AgentState:
    return replace(
        worker,
        host=event.host,
        gpus=event.gpus,
        reading=False,
        facts_at_s=at.now_s + at.policy.facts_interval_s,
    )


HANDLERS: dict[type, Callable[[AgentState, Any, Context], AgentState]] = {
    Tick: _on_tick,
    FactsRead: _on_facts,
    LinkLoggedIn: ssh_events.on_logged_in,
    LinkComplained: ssh_events.on_complained,
    LinkEnded: ssh_events.on_ended,
    ApiProbed: ssh_events.on_api_probed,
    ReverseProbed: ssh_events.on_reverse_probed,
    KubeProbed: kube.on_probed,
    KubeLoginsRead: kube.on_logins_read,
    TailscaledQueried: tailnet.on_seen,
    TailnetJoinTried: tailnet.on_join_tried,
    CallEnded: calls.on_ended,
    ShutdownRequested: going.on_requested,
    NoticeReceived: going.on_notice,
    NodeCordoned: drain.on_cordoned,
    WorkersListed: drain.on_workers,
    StopWritten: drain.on_written,
}


def step(
    worker: AgentState, event: Event, now_s: float, policy: Policy, jitter: float = 0.5
) -> tuple[AgentState, tuple[Effect, ...]]:
    """Take one event in. `now_s` is monotonic, `jitter` is drawn evenly from [0, 1) by the caller.

    STOPPED and FAILED are final: nothing leads out of them, and nothing is done there.
    """
    if worker.state in FINAL:
        return worker, ()
    at = Context(now_s, policy, jitter)
    worker = HANDLERS[type(event)](worker, event, at)
    return _advance(worker, at)


def _advance(worker: AgentState, at: Context) -> tuple[AgentState, tuple[Effect, ...]]:
    """Do what is due. The order matters: the offer is decided on what the links are, calls on the offer."""
    commands: list[Effect] = []
    if not worker.reading and at.now_s >= worker.facts_at_s:
        worker = replace(worker, reading=True)
        commands.append(ReadFacts())
    worker, probes = kube.manage(worker, at)
    worker, tailnet_commands = tailnet.manage(worker, at)
    worker, link_commands = link_upkeep.manage(worker, at)
    worker = fatal.decide_exit(worker, at)
    worker, room_commands = drain.manage(worker, at)
    worker = replace(worker, offer=offer.decide(worker, at))
    worker, calls_due = calls.manage(worker, at)
    worker = displayed_state.follow(going.manage(worker, at), at)
    commands += [*probes, *tailnet_commands, *link_commands, *room_commands, *calls_due]
    if worker.state in FINAL:
        worker, stops = link_upkeep.manage(worker, at)
        assert worker.ending is not None  # noqa: S101 - the table enters a final state for no other reason
        commands = [*commands, *stops, Exit(worker.ending.exit_code, worker.ending.reason)]
    return worker, tuple(commands)


def wake_in_s(worker: AgentState, now_s: float, longest_s: float = 1.0) -> float:
    """Seconds until something is due, at most `longest_s`. Waking too early costs a look, never a mistake."""
    due = [worker.call_retry_at_s, worker.lease.next_at_s, worker.kube.probe_at_s, worker.room.ask_at_s]
    due += [worker.tailnet.look_at_s, worker.tailnet.join_at_s]
    due += [_link_due_s(link) for link in (worker.api, worker.reverse, worker.data)]
    ahead = [moment - now_s for moment in due if moment > now_s]
    return max(0.005, min([longest_s, *ahead]))


def _link_due_s(link: Link) -> float:
    return link.retry_at_s if link.phase is LinkPhase.DOWN else link.probe_at_s
