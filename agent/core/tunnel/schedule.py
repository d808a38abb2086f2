"""What is due for the ssh children: which to start, to end, and to ask now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.core.config import Connection
from agent.core.context import Context
from agent.core.effects import Effect, ProbeApi, ProbeReverse, StartLink, StopLink
from agent.core.state import AgentState
from agent.core.tailnet import login as tailnet
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link, LinkPhase, Purpose
from agent.core.tunnel.transitions import fail, probed, put, wanted


def manage(worker: AgentState, at: Context) -> tuple[AgentState, list[Effect]]:
    """Start, stop and probe whatever is due now."""
    commands: list[Effect] = []
    for purpose in Purpose:
        worker = _manage_one(worker, purpose, at, commands)
    worker = _probe_api(worker, at, commands)
    return _probe_reverse(worker, at, commands), commands


def _manage_one(worker: AgentState, purpose: Purpose, at: Context, commands: list[Effect]) -> AgentState:
    link = worker.link(purpose)
    # Its own address in the tailnet is not to be asked while there is no tailnet; the api link says why.
    is_wanted = wanted(worker, purpose) and (purpose is Purpose.API or tailnet.is_up(worker))
    if not is_wanted and link.phase is not LinkPhase.DOWN:
        worker, link = _change(worker, purpose, replace(link, phase=LinkPhase.DOWN, **_FORGOTTEN))
    elif _overdue(worker, link, at):
        text = f"ssh was not let in after {at.policy.start_timeout_s:g} s"
        worker = fail(worker, purpose, Fault(FaultKind.SILENT, text), at)
        link = worker.link(purpose)
    if link.phase is LinkPhase.DOWN and link.child:
        commands.append(
            StopLink(purpose, link.generation, link.trouble.text if link.trouble else "not wanted now")
        )
        worker, link = _change(worker, purpose, replace(link, child=False))
    if (
        is_wanted
        and link.phase is LinkPhase.DOWN
        and at.now_s >= link.retry_at_s
        and _has_turn(worker, purpose)
    ):
        return _start(worker, purpose, link, at, commands)
    return worker


def _has_turn(worker: AgentState, purpose: Purpose) -> bool:
    """One asks for all: while sshd is out of reach or refuses the key, only the api child tries.

    The first attempt of a start is everybody's at once, for speed. In a tailnet all wait for tailscaled.
    """
    api = worker.api
    if worker.setup.connection is Connection.TAILSCALE:
        return tailnet.is_up(worker)
    if purpose is Purpose.API or worker.setup.connection is not Connection.SSH:
        return True
    return api.phase is not LinkPhase.DOWN and (api.logged_in_at_s is not None or api.generation == 1)


_FORGOTTEN: dict[str, Any] = {
    "attempt": 0,
    "retry_at_s": 0.0,
    "up_since_s": None,
    "logged_in_at_s": None,
    "down_since_s": None,
    "probing": False,
    "silent": 0,
    "refusals": 0,
    "trouble": None,
    "said": None,
}
"""A link that is no longer wanted starts afresh when it is wanted again."""


def _change(worker: AgentState, purpose: Purpose, link: Link) -> tuple[AgentState, Link]:
    return put(worker, purpose, link), link


def _overdue(worker: AgentState, link: Link, at: Context) -> bool:
    """ssh has a time limit for connecting, none for logging in."""
    waiting = link.phase is LinkPhase.STARTING and link.logged_in_at_s is None
    is_ssh = worker.setup.connection is Connection.SSH
    return is_ssh and waiting and at.now_s - link.started_at_s >= at.policy.start_timeout_s


def _start(
    worker: AgentState, purpose: Purpose, link: Link, at: Context, commands: list[Effect]
) -> AgentState:
    link = replace(
        link,
        phase=LinkPhase.STARTING,
        generation=link.generation + 1,
        started_at_s=at.now_s,
        probing=False,
        probe_at_s=at.now_s + at.policy.start_probe_s,
    )
    if worker.setup.connection is Connection.SSH:
        link = replace(link, child=True)
        address = worker.address if purpose is Purpose.REVERSE else None
        commands.append(StartLink(purpose, link.generation, address, link.session))
    else:
        # There is no child that would have to be let in first.
        link = replace(link, probe_at_s=at.now_s, logged_in_at_s=at.now_s)
    return put(worker, purpose, link)


def _probe_api(worker: AgentState, at: Context, commands: list[Effect]) -> AgentState:
    link = worker.api
    if link.phase is LinkPhase.DOWN or link.probing or at.now_s < link.probe_at_s or worker.ending:
        return worker
    commands.append(ProbeApi(link.generation, at.policy.probe_timeout_s))
    return replace(worker, api=replace(link, probing=True))


def _probe_reverse(worker: AgentState, at: Context, commands: list[Effect]) -> AgentState:
    link = worker.reverse
    idle = link.phase is LinkPhase.DOWN or link.probing or at.now_s < link.probe_at_s
    is_ssh = worker.setup.connection is Connection.SSH
    is_closed = is_ssh and worker.api.logged_in_at_s is None
    if idle or is_closed or worker.ending or not probed(worker, Purpose.REVERSE):
        return worker
    commands.append(ProbeReverse(link.generation, worker.candidate, at.policy.probe_timeout_s))
    return replace(worker, reverse=replace(link, probing=True))
